"""`rankcast.testing.run` in this process: what a user's own test sees of a task."""

import gc
import os
import sys
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image

from rankcast import DistributedWorker, InvalidInput, JobFailed, NotATask, task
from rankcast.testing import RunFailed, run, warm

SEEN: list[str] = []


@task("t/counts", world_size=2, retries=3)
class Counts(DistributedWorker):
    """Counts, saves each step, and stops when it is told to."""

    def setup(self, **kwargs: Any) -> None:
        SEEN.append("setup")

    def __call__(self, steps: int = 3, message: str = "") -> Any:
        began_at = int(self.last_checkpoint.read_text()) if self.last_checkpoint else 0
        for step in range(began_at + 1, steps + 1):
            if self.should_stop():
                self.add_streaming_result("stopped")
                break
            self.add_streaming_result({"step": step, "total": steps})
            self.save_checkpoint(str(step).encode(), "step.txt", step=step)
        print(message)
        return {"began_at": began_at, "attempt": self.attempt, "job": self.job_id}

    def teardown(self) -> None:
        SEEN.append("teardown")


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    SEEN.clear()


def test_a_run_gives_what_the_task_told_and_returned():
    ran = run(Counts, steps=2)
    assert ran.state == "succeeded"
    assert ran.results == [{"step": 1, "total": 2}, {"step": 2, "total": 2}]
    assert (ran.output["began_at"], ran.output["attempt"]) == (0, 1)
    assert ran.output["job"]
    assert SEEN == ["setup", "teardown"]


def test_events_come_in_their_order_with_the_kinds_and_ids_that_viewers_see():
    """A checkpoint is told with where it lies and what was said of it."""
    ran = run(Counts, {"steps": 1})
    [result, checkpoint] = ran.events
    assert (result.kind, checkpoint.kind) == ("", "checkpoint")
    assert [event.id for event in ran.events] == ["1-3", "1-4"]
    assert checkpoint.data["step"] == 1
    assert ran.checkpoints[0].read_bytes() == b"1"
    assert ran.checkpoints[0].match(checkpoint.data["path"])


def test_the_folder_of_a_run_goes_with_it():
    ran = run(Counts, steps=1)
    [path] = ran.checkpoints
    assert path.exists()
    del ran
    gc.collect()
    assert not path.exists()


def test_a_run_goes_on_from_a_checkpoint():
    """Of an earlier run, or a file that the test wrote; it is then a second attempt."""
    first = run(Counts, steps=2)
    second = run(Counts, steps=5, last_checkpoint=first.checkpoints[-1])
    assert [result["step"] for result in second.results] == [3, 4, 5]
    assert (second.output["began_at"], second.output["attempt"]) == (2, 2)
    with pytest.raises(FileNotFoundError):
        run(Counts, last_checkpoint="no/such/file")


@pytest.mark.parametrize(("cancel_after", "steps"), [(0, []), (1, [1]), (2, [1, 2])])
def test_a_run_is_cancelled_after_so_many_events(cancel_after, steps):
    """The next `should_stop` says so, each time the same."""
    ran = run(Counts, cancel_after=cancel_after)
    assert [result["step"] for result in ran.results[:-1]] == steps
    assert ran.results[-1] == "stopped"
    assert (ran.state, ran.output) == ("cancelled", None)


def test_a_run_that_ends_before_its_cancel_has_succeeded():
    assert run(Counts, steps=1, cancel_after=2).state == "succeeded"


def test_what_is_printed_is_in_the_logs_and_still_printed(capsys):
    ran = run(Counts, steps=0, message="two\nlines")
    assert [(line.rank, line.stream, line.text) for line in ran.logs] == [
        (0, "stdout", "two"),
        (0, "stdout", "lines"),
    ]
    assert capsys.readouterr().out == "two\nlines\n"


@pytest.mark.parametrize(
    ("given", "path"), [({"steps": "many"}, "$.steps"), ({"stepz": 3}, "$.stepz"), ({"message": {1}}, "$")]
)
def test_an_input_is_refused_as_a_submit_refuses_it(given, path):
    """Before `setup`."""
    with pytest.raises(InvalidInput) as refused:
        run(Counts, given)
    assert [fault.path for fault in refused.value.faults] == [path]
    assert SEEN == []


def test_an_input_is_a_mapping_or_keywords():
    with pytest.raises(TypeError, match="not both"):
        run(Counts, {"steps": 1}, message="x")
    with pytest.raises(ValueError, match="cancel_after"):
        run(Counts, cancel_after=-1)


Way = Literal["raise", "exit", "key", "none", "large", "interrupt", "skip"]


@task("t/goes-wrong")
class GoesWrong(DistributedWorker):
    def __call__(self, way: Way) -> Any:
        self.add_streaming_result("before")
        print("about to")
        match way:
            case "raise":
                raise LookupError("no such size")
            case "exit":
                sys.exit(3)
            case "key":
                self.add_streaming_result({"a": [1, {"b": object()}]})
            case "none":
                return {"lock": threading.Lock()}
            case "large":
                self.add_streaming_result("x" * 9_000_000)
            case "interrupt":
                raise KeyboardInterrupt
            case "skip":
                pytest.skip("not on this machine")


@pytest.mark.parametrize(
    ("way", "kind", "told"),
    [
        ("raise", "exception", "no such size"),
        ("exit", "exited", "sys.exit(3)"),
        ("key", "not_encodable", "$.a[1].b"),
        ("none", "not_encodable", "$.lock"),
        ("large", "not_encodable", "9000002 bytes"),
    ],
)
def test_what_goes_wrong_is_told_as_a_job_tells_it(way, kind, told):
    """The error object of a job, and what came before; Python shows the task's own error as its cause."""
    with pytest.raises(JobFailed) as failed:
        run(GoesWrong, way=way)
    error = failed.value
    assert isinstance(error, RunFailed)
    assert (error.error["kind"], error.error["rank"]) == (kind, 0)
    assert told in error.error["message"]
    assert (error.results, [line.text for line in error.logs]) == (["before"], ["about to"])
    assert isinstance(error.__cause__, BaseException)
    assert "Traceback" in error.error["traceback"]


def test_ctrl_c_and_a_skip_are_the_tests_own():
    """They are no failure of the task."""
    with pytest.raises(KeyboardInterrupt):
        run(GoesWrong, way="interrupt")
    with pytest.raises(pytest.skip.Exception):
        run(GoesWrong, way="skip")


def test_a_setup_that_raises_fails_the_run():
    """And leaves this process as it was."""

    @task("t/no-start")
    class NoStart(DistributedWorker):
        def setup(self, **kwargs: Any) -> None:
            raise OSError("no weights")

        def __call__(self) -> None: ...

    for _ in range(2):
        with pytest.raises(RunFailed) as failed:
            run(NoStart)
        assert failed.value.error["kind"] == "setup_failed"
    assert not dist.is_initialized()


def test_a_task_is_in_a_group_of_one_and_the_process_is_left_as_it_was():
    """torch.distributed and torchrun's variables are there, for as long as the run lasts."""

    @task("t/collective", world_size=8)
    class Collective(DistributedWorker):
        def __call__(self) -> Any:
            ones = torch.ones(2)
            dist.all_reduce(ones)
            return {"sum": ones, "world": self.world_size, "rank": os.environ["RANK"]}

    before = dict(os.environ)
    output = run(Collective).output
    assert (output["world"], output["rank"], output["sum"]["shape"]) == (1, "0", [2])
    assert dict(os.environ) == before
    assert not dist.is_initialized()


def test_values_are_encoded_as_in_a_rank():
    @task("t/values")
    class Values(DistributedWorker):
        def __call__(self, image_format: str = "jpeg") -> Any:
            self.add_streaming_result({"nan": float("nan"), "one": np.float32(1)})
            return Image.new("RGB", (4, 2))

    ran = run(Values, image_format="png")
    assert ran.results == [{"nan": None, "one": 1.0}]
    assert ran.output["content_type"] == "image/png"
    assert (ran.output["width"], ran.output["height"]) == (4, 2)


def test_what_is_stored_beside_the_log_can_be_read():
    """Saved by hand, or because it is large."""

    @task("t/stores")
    class Stores(DistributedWorker):
        def __call__(self) -> Any:
            self.add_streaming_result({"mask": np.ones(1_000_000)})
            return self.save_artifact("notes.txt", "three")

    ran = run(Stores)
    assert ran.artifact(ran.output).read_text() == "three"
    assert np.load(ran.artifact(ran.results[0]["mask"])).sum() == 1_000_000
    for other in ({"url": "data:image/png;base64,AA/BB/CC"}, {}):
        with pytest.raises(ValueError, match="is not stored beside the log"):
            ran.artifact(other)


def test_what_an_input_names_is_gone_after_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As after an attempt; and it never lay in the folder that the test was started in."""

    @task("t/fetches")
    class Fetches(DistributedWorker):
        def __call__(self, file: str) -> list[str]:
            path = self.fetch_input(file)
            return [str(path), path.read_text()]

    monkeypatch.chdir(tmp_path)
    path, text = run(Fetches, file="data:,hello").output
    assert text == "hello"
    assert not Path(path).exists()
    assert list(tmp_path.iterdir()) == []


def test_async_methods_are_awaited():
    @task("t/async")
    class Async(DistributedWorker):
        async def setup(self, **kwargs: Any) -> None:
            self.greeting = "hello"

        async def __call__(self) -> str:
            return self.greeting

    assert run(Async).output == "hello"


def test_a_warm_task_is_set_up_once():
    """And goes on after a run that failed, as a group of one does."""

    @task("t/fragile")
    class Fragile(DistributedWorker):
        calls = 0

        def setup(self, **kwargs: Any) -> None:
            SEEN.append("setup")

        def __call__(self, is_bad: bool = False) -> int:
            self.calls += 1
            if is_bad:
                raise ValueError
            return self.calls

    with warm(Fragile) as fragile:
        assert fragile.run().output == 1
        with pytest.raises(RunFailed):
            fragile.run(is_bad=True)
        assert fragile.run().output == 3
    assert SEEN == ["setup"]


def test_a_class_without_a_name_is_told_so():
    class Nameless(DistributedWorker):
        def __call__(self) -> None: ...

    with pytest.raises(NotATask):
        run(Nameless)
    with pytest.raises(ValueError, match="ranks"):
        run(Counts, ranks=0)


def test_two_warm_tasks_in_one_process_are_told_so():
    """torch.distributed has one group a process."""
    with warm(Counts) as one, warm(Counts) as other:
        one.run(steps=1)
        with pytest.raises(RuntimeError, match="group already; end that first"):
            other.run(steps=1)
        assert one.run(steps=1).state == "succeeded"


def test_what_a_test_patches_is_what_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The class is the test's own, not a copy that was imported again."""
    monkeypatch.setattr(Counts, "__call__", lambda self: str(tmp_path), raising=True)
    assert run(Counts).output == str(tmp_path)
