"""`rankcast.testing.run(ranks=…)` from nothing and back to nothing: what it starts, it ends."""

import os
from typing import Any

import pytest

from rankcast import DistributedWorker, task
from rankcast.testing import RunFailed, run, warm


@task("t/cold")
class Cold(DistributedWorker):
    def setup(self, **kwargs: Any) -> None:
        if "NO_WEIGHTS" in os.environ:
            raise OSError("no weights")

    def __call__(self) -> int:
        return self.world_size


def test_a_run_leaves_no_process():
    """One after the other; each has a fork server of its own."""
    assert run(Cold, ranks=1).output == 1
    assert run(Cold, ranks=3).output == 3


def test_a_setup_that_raises_fails_the_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_WEIGHTS", "1")
    with pytest.raises(RunFailed) as failed:
        run(Cold, ranks=2)
    assert (failed.value.error["kind"], failed.value.error["message"]) == ("setup_failed", "no weights")


def test_one_task_at_a_time_is_warm_on_ranks():
    """A process has one fork server."""
    with warm(Cold, ranks=1) as one, warm(Cold, ranks=1) as other:
        one.run()
        with pytest.raises(RuntimeError, match="a forkserver already"):
            other.run()
        assert one.run().output == 1
