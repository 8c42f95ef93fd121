"""The class that users derive from does what it says, with or without a rank around it."""

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import pytest

from rankcast.gpu_worker.distributed_worker import DistributedWorker


class Recorder:
    """Services that write down what they are asked for."""

    def __init__(self) -> None:
        self.cast_: list[tuple[Any, str]] = []
        self.saved: list[tuple[Any, str, dict[str, Any]]] = []
        self.threads: set[str] = set()
        self.peers_vote = False

    def cast(self, result: Any, image_format: str) -> None:
        self.cast_.append((result, image_format))

    def vote(self, flag: bool) -> bool:
        return flag or self.peers_vote

    def checkpoint_dir(self) -> Path:
        return Path("/shared/job/7")

    def save_checkpoint(self, value: Any, name: str, about: dict[str, Any]) -> Path:
        self.saved.append((value, name, about))
        return self.checkpoint_dir() / name

    def use_device(self) -> None:
        self.threads.add(threading.current_thread().name)


class Steps(DistributedWorker):
    def setup(self, model: str = "small") -> None:
        self.model = model
        self.is_down = False

    def __call__(self, prompt: str = "x", **kwargs: Any) -> str:
        self.add_streaming_result({"prompt": prompt}, as_text_event=True)
        return f"{self.model}: {prompt}"

    def teardown(self) -> None:
        self.is_down = True


class AsyncSteps(DistributedWorker):
    async def setup(self) -> None:
        self.setup_thread = threading.current_thread()

    async def __call__(self, way: str = "return") -> Any:
        await asyncio.sleep(0)
        if way == "exit":
            raise SystemExit(3)
        if way == "raise":
            raise LookupError("no")
        return threading.current_thread()


def in_a_rank(worker: DistributedWorker, rank: int = 0) -> Recorder:
    """As rank.py has it, between two calls."""
    services = Recorder()
    worker.rank = rank
    worker._bind(services, "cpu")
    worker.initialize()
    return services


def test_it_can_be_tried_without_any_rank():
    """rank 0 of 1, on the CPU; what it streams goes nowhere."""
    worker = Steps()
    assert (worker.rank, worker.world_size, worker.device, worker.running) == (0, 1, "cpu", False)
    worker.initialize(model="large")
    assert worker.running
    assert worker(prompt="a") == "large: a"
    assert worker.should_stop() is False
    assert (worker.job_id, worker.attempt, worker.cancelled) == (None, 0, False)
    worker.shutdown()
    assert worker.is_down
    assert not worker.running


def test_rank_zero_casts():
    """With the format that was asked for."""
    worker = Steps()
    services = in_a_rank(worker)
    worker._begin("job", 1)
    worker(prompt="a")
    worker.add_streaming_result([1], "png")
    worker.add_streaming_error(ValueError("bad"))
    assert services.cast_ == [({"prompt": "a"}, "jpeg"), ([1], "png"), ({"error": "bad"}, "jpeg")]


def test_other_ranks_do_not_cast_and_say_so_once(capsys):
    """A port from fal calls it everywhere; a silent no-op would puzzle."""
    worker = Steps()
    services = in_a_rank(worker, rank=1)
    worker._begin("job", 1)
    worker(), worker()
    assert services.cast_ == []
    assert capsys.readouterr().err == "rankcast: add_streaming_result does nothing on rank 1: rank 0 casts\n"


def test_nothing_is_cast_while_no_job_runs(capsys):
    """fal keeps it, and sends it to whoever asks next."""
    worker = Steps()
    services = in_a_rank(worker)
    worker.add_streaming_result({"loading": 1})
    assert services.cast_ == []
    assert "while no job runs" in capsys.readouterr().err


def test_a_task_that_outlives_its_job_cannot_cast_into_the_next():
    """Isolation: no byte of one job in another's stream."""
    worker = AsyncSteps()
    services = in_a_rank(worker)
    go_on = threading.Event()

    async def late() -> None:
        await asyncio.to_thread(go_on.wait)
        worker.add_streaming_result("late")

    worker._begin("first", 1)
    left_over = worker.submit(late())
    worker._end()
    worker._begin("second", 1)
    go_on.set()
    with pytest.raises(RuntimeError, match="is over"):
        left_over.result()
    assert services.cast_ == []
    worker.shutdown()


def test_a_thread_started_in_setup_may_cast_for_whatever_runs():
    """It belongs to no job."""
    worker = Steps()
    services = in_a_rank(worker)
    worker._begin("job", 1)
    sampler = threading.Thread(target=worker.add_streaming_result, args=["temperature"])
    sampler.start()
    sampler.join()
    assert services.cast_ == [("temperature", "jpeg")]


def test_the_job_is_known_while_it_runs():
    """And its cancel is heard, no other's."""
    worker = Steps()
    services = in_a_rank(worker)
    worker._begin("job", 2)
    assert (worker.job_id, worker.attempt) == ("job", 2)
    worker._cancel("another")
    assert not worker.cancelled
    worker._cancel("job")
    assert worker.cancelled
    assert worker.should_stop()
    worker._end()
    worker._begin("next", 1)
    assert not worker.cancelled
    services.peers_vote = True
    assert worker.should_stop()


def test_rank_zero_saves():
    """Under the name and with the words that it was given; the others do nothing."""
    first, second = Steps(), Steps()
    services = [in_a_rank(worker, rank) for rank, worker in enumerate((first, second))]
    for worker in (first, second):
        worker._begin("job", 1)
        assert worker.checkpoint_dir == Path("/shared/job/7")
    assert first.save_checkpoint([1], step=3) == Path("/shared/job/7/checkpoint.pt")
    assert second.save_checkpoint([1], step=3) is None
    first.save_checkpoint(b"", "ema.pt")
    assert services[0].saved == [([1], "checkpoint.pt", {"step": 3}), (b"", "ema.pt", {})]
    assert services[1].saved == []


@pytest.mark.parametrize("rank", [0, 1])
def test_a_checkpoint_that_cannot_be_meant_is_refused_on_every_rank(rank):
    """So that none of them waits for another that has raised."""
    worker = Steps()
    services = in_a_rank(worker, rank)
    worker._begin("job", 1)
    with pytest.raises(ValueError, match="cannot be a checkpoint's name"):
        worker.save_checkpoint(b"", "../c.pt")
    with pytest.raises(ValueError, match="attempt: what is said"):
        worker.save_checkpoint(b"", attempt=3)
    assert services.saved == []


def test_there_is_nothing_to_save_while_no_job_runs():
    """Nor a folder: it is the attempt's."""
    worker = Steps()
    in_a_rank(worker)
    with pytest.raises(RuntimeError, match="no job runs"):
        worker.save_checkpoint(b"")
    with pytest.raises(RuntimeError, match="no job runs"):
        _ = worker.checkpoint_dir


def test_the_last_checkpoint_is_of_the_job_that_runs():
    """A group stays warm, and the next job is another one."""
    worker = Steps()
    in_a_rank(worker)
    assert worker.last_checkpoint is None
    worker._begin("job", 2, Path("/shared/job/3/c.pt"))
    assert worker.last_checkpoint == Path("/shared/job/3/c.pt")
    worker._end()
    assert worker.last_checkpoint is None
    worker._begin("next", 1)
    assert worker.last_checkpoint is None


def test_saving_can_be_tried_without_any_rank():
    """In a folder that goes with the worker; what is saved goes nowhere."""
    worker = Steps()
    folder = worker.checkpoint_dir
    assert worker.save_checkpoint([1], step=1) == folder / "checkpoint.pt"
    (folder / "mine").write_bytes(b"")
    assert worker.save_checkpoint(folder / "mine") == folder / "mine"
    del worker
    gc.collect()
    assert not folder.exists()


def test_async_methods_run_on_the_loop_of_the_worker():
    """In one daemon thread, with the device set."""
    worker = AsyncSteps()
    services = in_a_rank(worker)
    thread = worker._invoke(worker)
    assert thread is worker.thread is worker.setup_thread
    assert thread.daemon
    assert {"MainThread", thread.name} <= services.threads
    worker.shutdown()
    assert not thread.is_alive()


@pytest.mark.parametrize(("way", "error"), [("raise", LookupError), ("exit", SystemExit)])
def test_what_an_async_call_raises_comes_back(way, error):
    """sys.exit in a task would otherwise end the loop, and leave the caller waiting."""
    worker = AsyncSteps()
    with pytest.raises(error):
        worker._invoke(worker, way=way)
    assert worker._invoke(worker) is worker.thread
    worker.shutdown()


def test_functions_run_in_the_worker_whatever_their_arguments_are_called():
    """fal stumbles over `func` and `self`."""
    worker = Steps()
    services = in_a_rank(worker)

    def plain(func: int, **rest: int) -> tuple[int, dict[str, int], str]:
        return func, rest, threading.current_thread().name

    async def coroutine(func: int) -> int:
        return func

    func, rest, name = worker.run_in_worker(plain, func=1, self=2).result()
    assert (func, rest) == (1, {"self": 2})
    assert name in services.threads
    assert worker.run_in_worker(coroutine, func=3).result() == 3
    worker.shutdown()


def test_it_runs_while_it_is_set_up():
    """A thread that `setup` starts goes on `while self.running`; one whose `setup` fails never ran."""

    class Samples(Steps):
        def setup(self, is_broken: bool = False, **kwargs: Any) -> None:
            self.ran = self.running
            if is_broken:
                raise LookupError("no model")

    worker = Samples()
    with pytest.raises(LookupError):
        worker.initialize(is_broken=True)
    assert not worker.running
    worker.initialize()
    assert worker.ran


def test_its_thread_is_there_whenever_it_is_asked_for():
    worker = Steps()
    thread = worker.thread
    assert thread.is_alive()
    assert worker.run_in_worker(threading.current_thread).result() is not thread
    assert worker.thread is thread
    worker.shutdown()
    assert not worker.thread.is_alive()


def test_a_class_may_choose_its_own_device():
    """In fal `device` is a property, and code that tries CUDA models elsewhere overrides it."""

    class OnMeta(Steps):
        @property
        def device(self) -> str:
            return "meta"

    worker = OnMeta()
    in_a_rank(worker)
    assert worker.device == "meta"


def test_shutdown_may_come_twice_and_before_setup():
    """It tears down what was set up, once."""
    worker = Steps()
    worker.shutdown()
    worker.initialize()
    worker.shutdown()
    worker.is_down = False
    worker.shutdown()
    assert not worker.is_down


def test_rank_print_says_who_speaks(capsys):
    worker = Steps(2, 4)
    worker.rank_print("loaded")
    worker.rank_print(message="x", debug=True)
    assert capsys.readouterr().out == "[rank 2] loaded\n[debug] [rank 2] x\n"


def test_a_class_without_a_call_says_so():
    with pytest.raises(NotImplementedError, match="DistributedWorker has no __call__"):
        DistributedWorker()()
