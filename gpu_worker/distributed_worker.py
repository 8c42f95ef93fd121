"""Step 6. `DistributedWorker`: the class that users derive from, one instance in each rank.

Knows neither torch nor redis: the rank that it lives in hands it a device and Services (rank.py).
So users' classes import, and can be called in a plain test, where nothing but Rankcast's client is
installed. The names and their meaning are those of fal.distributed.DistributedWorker.
"""

import asyncio
import contextvars
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from rankcast.gpu_worker import checkpoints
from rankcast.gpu_worker.activity import Activity
from rankcast.gpu_worker.leftovers import LeftOvers
from rankcast.gpu_worker.services import Alone, Services
from rankcast.tasks.artifacts import check_name

T = TypeVar("T")

#: The worker and the number of the call that the running code belongs to. Tasks that a call started
#: carry it on past its end. A plain thread carries none (leftovers.py).
_CALL: "contextvars.ContextVar[tuple[DistributedWorker, int] | None]" = contextvars.ContextVar(
    "rankcast_call", default=None
)
#: In no context.
_NOBODY = object()


class DistributedWorker:
    """Derive from this, put `@task` on it, write `setup` and `__call__`.

    `setup`, `__call__` and `teardown` may be plain or `async def`: plain ones run in the rank's main
    thread, the others on the worker's own event loop. torch.distributed is initialised before
    `setup`, and the rank's GPU is the current one in every thread that Rankcast runs your code in.

    `Steps()` outside a rank works, with rank 0 of 1 on the CPU: call `initialize()`, then call it;
    what it streams goes nowhere.
    """

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.rank = rank
        self.world_size = world_size
        #: The job that runs, and which try at it this is, from 1. None and 0 between jobs.
        self.job_id: str | None = None
        self.attempt = 0
        #: The checkpoint to go on from: what attempts before this one announced last, the same on all
        #: ranks. None if there is none, or this host does not reach it.
        self.last_checkpoint: Path | None = None
        #: From before `setup` until `teardown`.
        self.running = False
        self._device: Any = "cpu"
        self._services: Services = Alone()
        self._call = 0
        #: What code of the present call finds in `_CALL`.
        self._caster: object = _NOBODY
        self._left_overs = LeftOvers()
        self._is_in_call = False
        self._activity = Activity()
        self._cancelled = threading.Event()
        self._has_told_silence = False
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # For users to write

    def setup(self, **kwargs: Any) -> Any:
        """Load what every call needs. Once per group, on every rank."""

    def __call__(self, **kwargs: Any) -> Any:
        """One job, on every rank; what rank 0 returns is the output."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def teardown(self) -> Any:
        """Let go. Called when a group ends in good order; a killed one has no time for it."""

    # For users to call

    @property
    def device(self) -> Any:
        """A torch.device in a rank: `cuda:N`, or the CPU. A class may define its own."""
        return self._device

    def add_streaming_result(
        self, result: Any, image_format: str = "jpeg", as_text_event: bool = False
    ) -> None:
        """Cast one event to everybody who watches the job. From any thread; rank 0 casts, others don't.

        Changing `result` later changes nothing: large images, and tensors and arrays on the CPU, are copied
        now and encoded by another thread, all else is encoded now. A tensor on a GPU, however small, is
        copied when its current stream gets there, and nothing waits for that here. `image_format` is jpeg,
        png or webp.
        `as_text_event` is fal's; both values give the same JSON event. Returns at once, unless 64 MiB of
        events are waiting for Redis. More than 90 a second are sent together, 10 times a second.

        NotEncodable, with the path of the value; EventTooLarge, which fails the job if it is the other thread
        that finds it; StaleAttempt when the job went to another worker;
        RuntimeError from a task or a thread whose own job is over.
        """
        self._activity.touch()
        if (_CALL.get() is self._caster and self.rank == 0) or self._may_cast():
            self._services.cast(result, image_format)

    def add_streaming_error(self, error: BaseException) -> None:
        """Cast `{"error": message}`. The job goes on; raise to end it."""
        self.add_streaming_result({"error": str(error)})

    @property
    def checkpoint_dir(self) -> Path:
        """This attempt's own folder, the same on all ranks. RuntimeError while no job runs.

        Write nowhere else: an attempt that is cut off from Redis may still be writing when the next
        one has begun.
        """
        if not self._is_in_call and not isinstance(self._services, Alone):
            raise RuntimeError("there is no checkpoint_dir while no job runs")
        return self._services.checkpoint_dir()

    def save_checkpoint(self, value: Any, name: str = "checkpoint.pt", **about: Any) -> Path | None:
        """Save what another attempt may go on from; viewers are told `about` it, say `step=300`.

        bytes are written as they are; a Path in `checkpoint_dir`, file or folder, names what you wrote
        there yourself, and must be a new one each time; anything else goes through `torch.save`. Returns
        the file's path once it is on disk and Redis has it as the job's last checkpoint: while Redis
        is away, it waits. Two are kept, the last and the one before. Rank 0 saves; on others this does
        nothing and returns None.

        ValueError for a `name`, a path or `about` that cannot be meant; OSError when the disk does not
        take it (left uncaught, a full one ends the job as `storage_full`): the earlier checkpoint
        stays. StaleAttempt when the job went to another worker. RuntimeError while no job runs, or from
        a task or a thread whose own job is over.
        """
        checkpoints.check(name, about)
        self._activity.touch()
        if self.rank != 0:
            return None
        self._need_job("there is nothing to save while no job runs")
        with self._activity.held:
            return self._services.save_checkpoint(value, name, about)

    def save_artifact(self, name: str, value: Any) -> dict[str, Any] | None:
        """Store what viewers shall fetch by itself, of any size; the reference, to be streamed or returned:
        `{"url", "content_type", "file_name", "file_size"}`, with `width` and `height` of an image, `shape`
        and `dtype` of a tensor or an array.

        A Path names a file, which is copied; str and bytes are written as they are. The end of `name` says
        how else: an image `.png`, `.jpg` or `.webp`, a tensor or a dict of tensors `.safetensors`, an array
        `.npy`, anything else `.json`. It is on disk when this returns, and goes with the job. Rank 0 saves;
        on others this does nothing and returns None.

        ValueError for a name that cannot be one, or does not fit; NotEncodable; OSError when the disk does
        not take it (left uncaught, a full one ends the job as `storage_full`); EventTooLarge where workers
        and web tier have no folder in common. RuntimeError while no job runs, or from a task or a thread
        whose own job is over.
        """
        check_name(name)
        self._activity.touch()
        if self.rank != 0:
            return None
        self._need_job("there is nothing to save while no job runs")
        with self._activity.held:
            return self._services.save_artifact(name, value)

    def fetch_input(self, url: str | Mapping[str, Any]) -> Path:
        """A file with what an input names: a data URL, a file that was uploaded (`POST /files`) or stored by
        a job, of the same API key, or the URL of a host that this worker may ask (`--fetch-host`). Also the
        whole reference, with its `url`.

        On any rank, each with a file of its own, which is gone when the attempt is over. Blocks: in an
        `async def`, use `run_in_worker`. InputNotFetched for what cannot be had, may not be, is too large or
        takes too long; left uncaught it ends the job as `invalid_input`. RuntimeError as `save_artifact`.
        """
        self._activity.touch()
        self._need_job("nothing can be fetched while no job runs")
        with self._activity.held:
            return self._services.fetch_input(url)

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked to cancel the job, as far as this rank knows: ranks may differ for
        a moment. Where they must not, ask `should_stop`."""
        return self._cancelled.is_set()

    def should_stop(self) -> bool:
        """Whether to stop, with the same answer on all ranks: True once any of them was cancelled.

        A collective: every rank must call it, as often and in the same order as the others.
        """
        self._activity.touch()
        return self._services.vote(self.cancelled)

    def alive(self) -> None:
        """Say that the work goes on, in a task with `stall_s` that has nothing to stream for so long.
        From any thread, on any rank."""
        self._activity.touch()

    def rank_print(self, message: Any, debug: bool = False) -> None:
        """Print a line with this rank's number; the job's log has it."""
        print(f"{'[debug] ' if debug else ''}[rank {self.rank}] {message}", flush=True)

    def submit(self, coro: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the worker's event loop, from any thread."""
        return asyncio.run_coroutine_threadsafe(coro, self.loop)

    def run_in_worker(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `func` on the worker's event loop if it is `async def`, else in the loop's threads."""
        if inspect.iscoroutinefunction(func):
            return self.submit(func(*args, **kwargs))
        bound = functools.partial(contextvars.copy_context().run, func, *args, **kwargs)
        return self.submit(_in_thread(bound))

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The worker's own event loop; it starts, in a daemon thread, when it is first asked for."""
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_default_executor(
                    ThreadPoolExecutor(thread_name_prefix="rankcast-user", initializer=self._use_device)
                )
                self._thread = threading.Thread(target=self._run_loop, name="rankcast-loop", daemon=True)
                self._thread.start()
            return self._loop

    @property
    def thread(self) -> threading.Thread:
        """The thread of `loop`, started with it; after `shutdown`, the one that has ended."""
        if self._thread is None:
            _ = self.loop
        assert self._thread is not None
        return self._thread

    def initialize(self, **kwargs: Any) -> None:
        """Run `setup` and wait for it."""
        self._use_device()
        # Threads that `setup` starts may ask.
        self.running = True
        try:
            self._invoke(self.setup, **kwargs)
        except BaseException:
            self.running = False
            raise

    def shutdown(self, timeout: float | None = None) -> None:
        """Run `teardown`, end the event loop and wait for its thread, at most `timeout` seconds.
        Does nothing the second time."""
        if self.running:
            self.running = False
            self._invoke(self.teardown)
        with self._starting:
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(timeout)

    # For the rank

    def _bind(self, services: Services, device: Any) -> None:
        self._services = services
        self._device = device

    def _begin(self, job_id: str, attempt: int, last_checkpoint: Path | None = None) -> None:
        self.job_id, self.attempt, self.last_checkpoint = job_id, attempt, last_checkpoint
        self._left_overs.begin()
        self._call += 1
        self._cancelled.clear()
        self._is_in_call = True
        self._activity.start()
        self._caster = origin = (self, self._call)
        _CALL.set(origin)

    def _end(self) -> None:
        # The number goes on here too: what the call left behind is no part of the next one.
        self._call += 1
        self._left_overs.end()
        self._is_in_call = False
        self.job_id, self.attempt, self.last_checkpoint = None, 0, None
        self._caster = _NOBODY
        _CALL.set(None)

    def _belongs_to_call(self) -> bool:
        """Whether the code that runs here works for the present call, as far as can be told."""
        origin = _CALL.get()
        if origin is not None and origin[0] is self:
            return origin[1] == self._call
        return not self._left_overs.has_this_thread()

    def _may_cast(self) -> bool:
        """Whether a rank is there, and a job runs, that takes events; what it says where they are ignored."""
        if self.rank != 0:
            self._say_once(f"add_streaming_result does nothing on rank {self.rank}: rank 0 casts")
            return False
        if not self._belongs_to_call():
            raise RuntimeError("the job that this task belongs to is over")
        if not self._is_in_call and not isinstance(self._services, Alone):
            self._say_once("add_streaming_result does nothing while no job runs")
            return False
        return True

    def _need_job(self, otherwise: str) -> None:
        """RuntimeError unless the code that runs here works for a job that runs."""
        if not self._belongs_to_call():
            raise RuntimeError("the job that this task belongs to is over")
        if not self._is_in_call and not isinstance(self._services, Alone):
            raise RuntimeError(otherwise)

    def _cancel(self, job_id: str) -> None:
        if job_id == self.job_id:
            self._cancelled.set()

    def _invoke(self, method: Callable[..., Any], /, **kwargs: Any) -> Any:
        """Call a user's method where it belongs, wait, and return or raise what it did."""
        result = method(**kwargs)
        if not inspect.isawaitable(result):
            return result
        outcome, error = self.submit(_caught(result)).result()
        if error is not None:
            raise error
        return outcome

    def _use_device(self) -> None:
        self._services.use_device()

    def _run_loop(self) -> None:
        self._use_device()
        loop = self._loop
        assert loop is not None
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    def _say_once(self, line: str) -> None:
        if not self._has_told_silence:
            self._has_told_silence = True
            print(f"rankcast: {line}", file=sys.stderr, flush=True)


async def _in_thread(func: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, func)


async def _caught(awaitable: Any) -> tuple[Any, BaseException | None]:
    """The result or the error. SystemExit, raised in a task, would end the loop and leave the
    caller waiting."""
    try:
        return await awaitable, None
    except BaseException as error:
        return None, error
