"""One rank in this process: quick, and a debugger stops in the task's own lines."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist

from rankcast.gpu_worker import failure
from rankcast.gpu_worker.load import TaskClass
from rankcast.gpu_worker.messages import CancelSeen, Done, Failed, Message, Start
from rankcast.gpu_worker.pipe import BlockingEnd
from rankcast.gpu_worker.ranklog import Lines
from rankcast.gpu_worker.rehearsal import RehearsedCall, RehearsedRank, Told
from rankcast.gpu_worker.verdict import Ending, cause
from rankcast.testing.ran import Ear
from rankcast.testing.rehearsal import Rehearsal


class Here(Rehearsal):
    """Rank 0 of 1, on the CPU, in the calling thread."""

    _rank: "RankHere | None" = None
    _environ: Any = None

    def close(self) -> None:
        rank, self._rank = self._rank, None
        try:
            if rank is not None:
                rank.leave()
        finally:
            if self._environ is not None:
                self._environ.stop()
                self._environ = None

    def _play(self, call: RehearsedCall, ear: Ear) -> bytes | None:
        with _heard("stdout", ear), _heard("stderr", ear):
            rank = self._rank or self._load(ear)
            told, raised = rank.call(call, ear)
        if isinstance(told, Failed):
            raise ear.failed(cause([Ending(0, failed=told)])) from raised
        return None if rank.heard.is_cancelled else (told.output or "null").encode()

    def _load(self, ear: Ear) -> "RankHere":
        if dist.is_initialized():
            raise RuntimeError(
                "this process is in a torch.distributed group already; end that first, or say ranks=1"
            )
        # A rank sets what torchrun sets.
        self._environ = patch.dict(os.environ)
        self._environ.start()
        self._rank = rank = RankHere(self._task)
        try:
            rank.enter()
        except BaseException as error:
            self.close()
            _let_pass(error)
            raise ear.failed(cause([Ending(0, failed=failure.told(error))], is_setup=True)) from error
        return rank


class RankHere(RehearsedRank):
    """A rank that is driven by calls instead of messages, and has no threads but its publisher's."""

    def __init__(self, task: TaskClass) -> None:
        self.heard = Heard()
        start = Start(
            task=task.declaration.name,
            spec="",
            rank=0,
            world_size=1,
            device=None,
            backend="gloo",
            threads=torch.get_num_threads(),
            settings={},
        )
        super().__init__(start, self.heard)
        self._task_class = task
        self._raised: BaseException | None = None

    def enter(self) -> None:
        """Join the group of one, and run `setup`."""
        self._prepare()

    def call(self, call: RehearsedCall, ear: Ear) -> tuple[Done | Failed, BaseException | None]:
        """Make the call; its report, and what the task raised. What is not the task's, a Ctrl-C or a
        skip, is raised from here."""
        self._raised = None
        self.heard.begin(ear)
        self._answer(self._task_class, call)
        if self._raised is not None:
            _let_pass(self._raised)
        return self.heard.report, self._raised

    def leave(self) -> None:
        """Run `teardown`, and leave the group."""
        try:
            self._leave()
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()

    def _task(self) -> TaskClass:
        return self._task_class

    def _told(self, error: BaseException) -> Message:
        self._raised = error
        return super()._told(error)


class Heard(BlockingEnd):
    """In the place of a rank's pipe: what it says is heard at once."""

    report: Done | Failed

    def __init__(self) -> None:
        self._ear: Ear | None = None
        self.is_cancelled = False

    def begin(self, ear: Ear) -> None:
        self._ear, self.is_cancelled = ear, False

    def send(self, message: Message) -> None:
        match message:
            case Told() if self._ear is not None:
                self._ear.told(message)
            case CancelSeen():
                self.is_cancelled = True
            case Done() | Failed():
                self.report = message

    def receive(self) -> Message | None:
        return None


class _Tee:
    """A text stream whose lines are heard, too."""

    def __init__(self, stream: Any, hear: Callable[[str], None]) -> None:
        self._stream = stream
        self._hear = hear
        self._lines = Lines()

    def write(self, text: str) -> int:
        for line in self._lines.feed(text.encode(errors="replace")):
            self._hear(line)
        return int(self._stream.write(text))

    def end(self) -> None:
        for line in self._lines.end():
            self._hear(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _heard(name: str, ear: Ear) -> Iterator[None]:
    """Hear what is printed to this stream of Python's, and let it pass."""
    stream = getattr(sys, name)
    tee = _Tee(stream, lambda line: ear.line(0, name, line))
    setattr(sys, name, tee)
    try:
        yield
    finally:
        setattr(sys, name, stream)
        tee.end()


def _let_pass(error: BaseException) -> None:
    """Raise what does not come from the task: Ctrl-C, and how pytest skips or ends a test."""
    if not isinstance(error, Exception | SystemExit):
        raise error
