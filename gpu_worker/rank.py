"""Step 6. One rank: joins its group, runs `setup` once, then one call after the other.

Runs in its own process (birth.py). The main thread waits for calls and runs users' code; one thread
reads the parent's pipe, and one says, while a call runs, that the interpreter does. Between calls a
rank waits on its pipe, never inside a collective.
"""

import functools
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import torch
import torch.distributed as dist

from rankcast.gpu_worker import failure, output, seeds, tensors
from rankcast.gpu_worker.artifacts import AttemptArtifacts
from rankcast.gpu_worker.checkpoints import AttemptFolder
from rankcast.gpu_worker.distributed_worker import DistributedWorker
from rankcast.gpu_worker.fetch import Host, Limits
from rankcast.gpu_worker.files import FileRules
from rankcast.gpu_worker.forms import IMAGE_MODES
from rankcast.gpu_worker.inputs import InputFiles
from rankcast.gpu_worker.load import NotLoadable, TaskClass, is_imported, load
from rankcast.gpu_worker.messages import (
    Call,
    Cancel,
    CancelSeen,
    Done,
    Heartbeat,
    Message,
    Ready,
    Rendezvous,
    Settle,
    Settled,
    Start,
    StorePort,
)
from rankcast.gpu_worker.moments import CALLED, RETURNED, Marks
from rankcast.gpu_worker.payload import MAX_OUTPUT_BYTES, OUTPUT_QUALITY, Apart, draft, encode, plain
from rankcast.gpu_worker.pipe import BlockingEnd
from rankcast.gpu_worker.progress import progress_of, said_of
from rankcast.gpu_worker.publisher import Publisher
from rankcast.gpu_worker.ticker import Ticker
from rankcast.tasks.artifacts import DirectoryArtifacts
from rankcast.tasks.connect import connect
from rankcast.tasks.errors import StaleAttempt
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.settings import Settings
from rankcast.tasks.uploads import Uploads

HEARTBEAT_S = 1.0
#: Between two looks whether Redis was restarted, while that could cost events.
LOOK_S = 1.0
#: Python's default lets a busy thread hold the interpreter for 5 ms, and each event would wait for it.
SWITCH_INTERVAL_S = 0.0005
#: How long torch.distributed waits for a peer. The parent sees more, and gives up long before.
PEER_TIMEOUT = timedelta(days=1)
#: For the GPU to finish what a failed call has left on it.
DEVICE_TIMEOUT_S = 2.0
#: What a task may say of a checkpoint: it stands in the record, and in every claim.
MAX_ABOUT_BYTES = 4096


def main(fds: tuple[int, ...]) -> int:
    """Be the rank whose Start comes over `fds[0]`; stdout and stderr go to the other two.

    The exit code: 0 after Shutdown, 1 when it could not start.
    """
    return be(Rank, fds)


def be(kind: "type[Rank]", fds: tuple[int, ...]) -> int:
    """The same, as a rank of this kind."""
    pipe_fd, stdout_fd, stderr_fd = fds
    output.take_over(stdout_fd, stderr_fd)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    seeds.draw_apart()
    pipe = BlockingEnd(socket.socket(fileno=pipe_fd))
    start = pipe.receive()
    if not isinstance(start, Start):
        return 1
    code = kind(start, pipe).live()
    output.flush()
    return code


class Running(NamedTuple):
    """The call that runs, and its files."""

    call: Call
    rules: FileRules
    checkpoints: AttemptFolder
    artifacts: AttemptArtifacts
    inputs: InputFiles


class Rank:
    """The life of one rank."""

    def __init__(self, start: Start, pipe: BlockingEnd) -> None:
        self._start = start
        self._pipe = pipe
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._is_calling = threading.Event()
        self._cancelled_job = ""
        self._worker: DistributedWorker | None = None
        self._votes: dist.ProcessGroup | None = None
        self._publisher: Publisher | None = None
        self._running: Running | None = None
        self._marks: Marks = {}
        self._device = torch.device("cpu") if start.device is None else torch.device("cuda", start.device)

    def live(self) -> int:
        for work in (self._read_pipe, self._tell_heartbeats):
            threading.Thread(target=work, name=f"rankcast-{work.__name__}", daemon=True).start()
        try:
            is_preloaded = is_imported(self._start.spec)
            task = self._prepare()
        except BaseException as error:
            output.flush()
            self._pipe.send(failure.told(error))
            return 1
        output.flush()
        self._pipe.send(Ready(os.getpid(), is_preloaded))
        while isinstance(call := self._inbox.get(), Call):
            self._answer(task, call)
        self._leave()
        return 0

    def _prepare(self) -> TaskClass:
        self._join()
        task = self._task()
        self._worker = task.cls(self._start.rank, self._start.world_size)
        self._worker._bind(self, self._device)
        if self._start.rank == 0:
            self._publisher = self._open_publisher()
        self._worker.initialize()
        return task

    def _task(self) -> TaskClass:
        return _find(self._start)

    def _join(self) -> None:
        """Meet the other ranks. Rank 0's store listens where the kernel chose, so no two groups of a
        host can meet by mistake."""
        start = self._start
        asked_for = os.environ.get("OMP_NUM_THREADS", "")
        torch.set_num_threads(int(asked_for) if asked_for.isdecimal() else start.threads)
        self.use_device()
        # A group never leaves its host.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        is_first = start.rank == 0
        port = 0
        if not is_first:
            rendezvous = self._inbox.get()
            assert isinstance(rendezvous, Rendezvous)
            port = rendezvous.port
        store = dist.TCPStore(  # type: ignore[attr-defined]
            "127.0.0.1", port, start.world_size, is_first, timeout=PEER_TIMEOUT, wait_for_workers=False
        )
        if is_first:
            self._pipe.send(StorePort(store.port))
        os.environ |= {
            "RANK": str(start.rank),
            "LOCAL_RANK": str(start.rank),
            "WORLD_SIZE": str(start.world_size),
            "LOCAL_WORLD_SIZE": str(start.world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
        }
        dist.init_process_group(
            start.backend,
            store=store,
            rank=start.rank,
            world_size=start.world_size,
            timeout=PEER_TIMEOUT,
            device_id=self._device if start.backend == "nccl" else None,
        )
        if start.world_size > 1:
            self._votes = dist.new_group(backend="gloo", timeout=PEER_TIMEOUT)

    def _open_publisher(self) -> Publisher:
        settings = Settings(**self._start.settings)
        log = EventLog(connect(settings.redis_url), settings)
        # Also between calls: what the last one streamed may be among what a restart of Redis takes.
        Ticker("redo", LOOK_S, log.look).start()
        return Publisher(log, on_cancel=lambda job_id: self._pipe.send(CancelSeen(job_id)), held=self._held())

    def _held(self) -> AbstractContextManager[None]:
        """In which a call may have to wait, and is not quiet for that."""
        assert self._worker is not None
        return self._worker._activity.held

    # Calls

    def _answer(self, task: TaskClass, call: Call) -> None:
        """Run one call and tell its end; every print of it is on its way before that."""
        worker, publisher = self._worker, self._publisher
        assert worker is not None
        told = call.resumes_from
        self._running = running = self._open_files(call)
        checkpoint = None if told is None else Path(call.checkpoints) / told["path"]
        worker._begin(call.job_id, call.attempt, checkpoint)
        # A cancel may have overtaken its call, which waited in the inbox.
        worker._cancel(self._cancelled_job)
        self._is_calling.set()
        final_seq = 0
        self._marks.clear()
        try:
            if publisher:
                publisher.begin(call)
            arguments = task.arguments_of(call.input)
            self._marks[CALLED] = time.monotonic_ns()
            try:
                result = worker._invoke(worker, **arguments)
            finally:
                self._marks[RETURNED] = time.monotonic_ns()
                # From here on it is Redis that may take its time.
                worker._activity.stop()
            apart = running.artifacts.apart(running.rules.max_inline_output_bytes)
            encoded = _encode_output(result, arguments, apart) if publisher else None
            final_seq = publisher.flush() if publisher else 0
            answer: Message = Done(encoded, final_seq, _collectives(), self._all_marks())
        except BaseException as error:
            answer = self._told(error)
        self._is_calling.clear()
        worker._end()
        if publisher:
            publisher.end()
        output.flush()
        self._pipe.send(answer)

    def _open_files(self, call: Call) -> Running:
        """Nothing is made on a disk before it is used."""
        rules = FileRules(**call.files)
        checkpoints = AttemptFolder(
            Path(call.checkpoints),
            call.job_id,
            call.fence,
            dump=torch.save,
            announce=functools.partial(self._announce, call),
        )
        store = None if rules.artifacts is None else DirectoryArtifacts(Path(rules.artifacts))
        artifacts = AttemptArtifacts(store, call.job_id, call.fence, owner=rules.owner, tensors=tensors)
        inputs = InputFiles(
            Path(rules.scratch),
            # Ranks fetch side by side into one folder.
            prefix=f"{self._start.rank}-",
            limits=Limits(rules.max_fetch_bytes, rules.fetch_timeout_s),
            owner=rules.owner,
            uploads=None if rules.uploads is None else Uploads(Path(rules.uploads)),
            artifacts=store,
            hosts=[Host.parse(each) for each in rules.fetch_hosts],
        )
        return Running(call, rules, checkpoints, artifacts, inputs)

    def _told(self, error: BaseException) -> Message:
        final_seq = 0
        if self._publisher and not isinstance(error, StaleAttempt):
            try:
                final_seq = self._publisher.flush()
            except Exception as lost:
                error = lost
                final_seq = 0 if isinstance(lost, StaleAttempt) else self._publisher.acknowledged
        collectives = self._collectives_if_sound()
        return failure.told(error, collectives=collectives, final_seq=final_seq, marks=self._all_marks())

    def _all_marks(self) -> Marks:
        return self._marks | (self._publisher.marks if self._publisher else {})

    def _collectives_if_sound(self) -> int | None:
        """The count, if the GPU finishes what it was given: an error there, or a kernel that waits
        for a peer, would be the next call's."""
        if self._device.type == "cuda":
            is_sound = threading.Event()

            def synchronize() -> None:
                torch.cuda.synchronize(self._device)
                is_sound.set()

            # In a thread, because it may never return.
            thread = threading.Thread(target=synchronize, daemon=True)
            thread.start()
            thread.join(DEVICE_TIMEOUT_S)
            if not is_sound.is_set():
                return None
        return _collectives()

    def _leave(self) -> None:
        if self._worker:
            self._worker.shutdown(timeout=1.0)
        if self._publisher:
            self._publisher.close()
        dist.destroy_process_group()

    # The worker's Services

    def cast(self, result: Any, image_format: str) -> None:
        publisher, running = self._publisher, self._running
        assert publisher is not None
        assert running is not None
        text = plain(result, image_format)
        if text is not None:
            publisher.cast(text, said_of(result), running.call)
            return
        with self._held():
            apart = running.artifacts.apart(running.rules.max_inline_event_bytes)
            event = draft(result, image_format, apart=apart, max_held_bytes=publisher.room_for_draft)
        # What was stored may have taken so long that another job runs by now.
        publisher.put(event, progress_of(result), only_for=running.call)

    def checkpoint_dir(self) -> Path:
        assert self._running is not None
        return self._running.checkpoints.made()

    def save_checkpoint(self, value: Any, name: str, about: dict[str, Any]) -> Path:
        assert self._running is not None
        # As JSON before anything is written: what cannot be told is refused first.
        told = orjson.loads(encode(about, max_bytes=MAX_ABOUT_BYTES))
        return self._running.checkpoints.save(value, name, told)

    def save_artifact(self, name: str, value: Any) -> dict[str, Any]:
        assert self._running is not None
        return self._running.artifacts.save(name, value)

    def fetch_input(self, given: str | Mapping[str, Any]) -> Path:
        assert self._running is not None
        return self._running.inputs.fetch(given)

    def _announce(self, call: Call, path: str, about: Mapping[str, Any]) -> None:
        assert self._publisher is not None
        self._publisher.announce(call, path, about)

    def vote(self, flag: bool) -> bool:
        if self._votes is None:
            return flag
        ballot = torch.tensor(int(flag))
        dist.all_reduce(ballot, op=dist.ReduceOp.MAX, group=self._votes)
        return bool(ballot)

    def use_device(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)

    # Threads

    def _read_pipe(self) -> None:
        while (message := self._pipe.receive()) is not None:
            if isinstance(message, Cancel):
                self._cancelled_job = message.job_id
                if self._worker is not None:
                    self._worker._cancel(message.job_id)
            elif isinstance(message, Settle):
                # In a thread of its own: a cancel may come meanwhile.
                threading.Thread(target=self._settle, args=(message,), daemon=True).start()
            else:
                self._inbox.put(message)
        # The worker is gone. So is everything that this rank started, and the rank itself.
        os.killpg(0, signal.SIGKILL)

    def _settle(self, asked: Settle) -> None:
        assert self._publisher is not None
        self._publisher.settle()
        self._pipe.send(Settled(asked.job_id))

    def _tell_heartbeats(self) -> None:
        pause = threading.Event()
        while self._is_calling.wait():
            quiet_s = 0.0 if self._worker is None else self._worker._activity.quiet_s()
            self._pipe.send(Heartbeat(quiet_s))
            pause.wait(HEARTBEAT_S)


def _find(start: Start) -> TaskClass:
    for task in load(start.spec):
        if task.declaration.name == start.task:
            return task
    raise NotLoadable(start.spec, f"it declares no task {start.task!r} any more")


def _encode_output(result: Any, arguments: dict[str, Any], apart: Apart | None) -> str:
    """The output as JSON text; `image_format` among the arguments chooses how images go, as in fal."""
    wanted = arguments.get("image_format")
    image_format = wanted if isinstance(wanted, str) and wanted in IMAGE_MODES else "jpeg"
    encoded = encode(result, image_format, quality=OUTPUT_QUALITY, max_bytes=MAX_OUTPUT_BYTES, apart=apart)
    return encoded.decode()


def _collectives() -> int | None:
    """How many collectives this rank has entered. None where users made groups of their own: which
    rank is in which cannot be told from a count."""
    world = dist.group.WORLD
    own_groups = 1 if dist.get_world_size() == 1 else 2
    if world is None or len(dist.distributed_c10d._world.pg_map) != own_groups:
        return None
    # The number that torch itself compares in its debug mode; missing in its type stubs.
    count: int = world._get_sequence_number_for_group()  # type: ignore[attr-defined]
    return count
