"""`rankcast.testing.run(ranks=…)`: real processes, joined over gloo, without Redis."""

import os
import time
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import torch
import torch.distributed as dist
from helpers import leaving_no_process

from rankcast import DistributedWorker, InvalidInput, task
from rankcast.testing import Rehearsal, RunFailed, run, warm


@task("t/on-ranks", world_size=8, cancel_grace_s=1.0)
class OnRanks(DistributedWorker):
    """Says on every rank what it can do there."""

    def setup(self, **kwargs: Any) -> None:
        self.rank_print("set up")

    def __call__(
        self, way: Literal["sum", "stop", "deaf", "raise", "die", "save", "climb"] = "sum", events: int = 2
    ) -> Any:
        for number in range(events):
            self.add_streaming_result({"number": number})
        return getattr(self, way)()

    def sum(self) -> Any:
        ranks = torch.tensor([self.rank])
        dist.all_reduce(ranks)
        return {"sum": int(ranks), "world": dist.get_world_size(), "pid": os.getpid()}

    def stop(self) -> None:
        while not self.should_stop():
            self.add_streaming_result("on and on")
        self.rank_print("stopped")

    def deaf(self) -> None:
        while True:
            time.sleep(0.01)

    def raise_(self) -> None:
        if self.rank == 1:
            raise ValueError("not mine")
        dist.barrier()

    def die(self) -> None:
        if self.rank == 1:
            os._exit(7)
        dist.barrier()

    def save(self) -> None:
        self.save_checkpoint({"step": 3}, step=3)

    def climb(self) -> Any:
        assert self.last_checkpoint is not None
        return [self.attempt, torch.load(self.last_checkpoint, weights_only=True)]

    def __getattr__(self, name: str) -> Any:
        if name == "raise":
            return self.raise_
        raise AttributeError(name)


@pytest.fixture(scope="module")
def on_ranks() -> Iterator[Rehearsal]:
    with leaving_no_process(), warm(OnRanks, ranks=2) as on_ranks:
        yield on_ranks


@pytest.fixture(autouse=True)
def no_process_is_left() -> None:
    """The group stays warm from one test to the next; `on_ranks` looks at the end."""


def test_the_ranks_work_together(on_ranks: Rehearsal):
    """As many as the test says, whatever the task declares."""
    ran = on_ranks.run()
    assert (ran.output["sum"], ran.output["world"]) == (1, 2)
    assert ran.output["pid"] != os.getpid()
    assert ran.results == [{"number": 0}, {"number": 1}]


def test_the_group_stays_warm(on_ranks: Rehearsal):
    assert on_ranks.run().output["pid"] == on_ranks.run().output["pid"]


def test_a_burst_is_all_there(on_ranks: Rehearsal):
    """In order, before the run returns."""
    results = on_ranks.run(events=2000).results
    assert [result["number"] for result in results] == list(range(2000))


def test_every_rank_stops_at_the_same_place(on_ranks: Rehearsal, capsys):
    """The fourth event is the last; each rank's lines are in the logs, and in the test's own output."""
    ran = on_ranks.run(way="stop", cancel_after=4)
    assert (ran.state, ran.output) == ("cancelled", None)
    assert ran.results[2:] == ["on and on", "on and on"]
    told = {(line.rank, line.text) for line in ran.logs}
    assert {(0, "[rank 0] stopped"), (1, "[rank 1] stopped")} <= told
    assert "rank 1 | [rank 1] stopped" in capsys.readouterr().out


def test_a_run_can_be_cancelled_before_it_begins(on_ranks: Rehearsal):
    assert on_ranks.run(way="stop", events=0, cancel_after=0).results == []


def test_a_task_that_does_not_stop_fails_its_test(on_ranks: Rehearsal):
    """The group is killed, and the next run has a new one."""
    with pytest.raises(RunFailed, match="did not stop by itself within 1 s"):
        on_ranks.run(way="deaf", cancel_after=2)
    assert on_ranks.run().output["sum"] == 1


@pytest.mark.parametrize(("way", "kind"), [("raise", "exception"), ("die", "exited")])
def test_a_rank_that_fails_while_another_waits_is_named(on_ranks: Rehearsal, way, kind):
    with pytest.raises(RunFailed) as failed:
        on_ranks.run(way=way)
    assert (failed.value.error["kind"], failed.value.error["rank"]) == (kind, 1)
    assert failed.value.results == [{"number": 0}, {"number": 1}]
    assert on_ranks.run().output["sum"] == 1


def test_a_run_goes_on_from_what_another_saved(on_ranks: Rehearsal):
    saved = on_ranks.run(way="save")
    ran = on_ranks.run(way="climb", last_checkpoint=saved.checkpoints[-1])
    assert ran.output == [2, {"step": 3}]


def test_an_input_is_refused_before_any_process_starts():
    with pytest.raises(InvalidInput):
        run(OnRanks, way="up", ranks=3)


def test_a_class_that_ranks_could_not_import_is_told_so():
    @task("t/local")
    class Local(DistributedWorker):
        def __call__(self) -> None: ...

    with pytest.raises(ValueError, match="must stand at the top of its module"):
        run(Local, ranks=2)
