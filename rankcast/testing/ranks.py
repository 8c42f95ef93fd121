"""A task under test in a real rank group: processes, gloo, and everything that can go wrong between them."""

import dataclasses
import inspect
import sys
from functools import partial
from importlib.machinery import PathFinder

from rankcast.gpu_worker.forkserver import ForkServer
from rankcast.gpu_worker.group import GroupFailed, RankGroup
from rankcast.gpu_worker.member import Member
from rankcast.gpu_worker.messages import Message
from rankcast.gpu_worker.rehearsal import RehearsedCall, Told
from rankcast.gpu_worker.supervision import Control
from rankcast.tasks.settings import Settings
from rankcast.testing.ran import Ear
from rankcast.testing.rehearsal import Rehearsal


class TellingGroup(RankGroup):
    """A group whose rank 0 tells its events here."""

    RANK = "rankcast.gpu_worker.rehearsal"

    #: Who hears them.
    ear: Ear | None = None

    def on_message(self, member: Member, message: Message) -> None:
        if isinstance(message, Told) and self.ear is not None:
            self.ear.told(message)
        super().on_message(member, message)


class Ranks(Rehearsal):
    """So many ranks, on the CPU, forked as a worker forks them."""

    def __init__(self, cls: type, ranks: int) -> None:
        super().__init__(cls)
        self._spec = spec_of(cls)
        self._ranks = ranks
        self._forkserver: ForkServer | None = None
        self._group: TellingGroup | None = None

    def close(self) -> None:
        group, self._group = self._group, None
        forkserver, self._forkserver = self._forkserver, None
        try:
            if group is not None:
                group.close()
        finally:
            if forkserver is not None:
                forkserver.stop()

    def _play(self, call: RehearsedCall, ear: Ear) -> bytes | None:
        group, declared = self._warm(ear), self._task.declaration
        group.ear = ear
        with Control() as control:
            outcome = group.run(
                call,
                control=control,
                timeout_s=declared.timeout_s,
                silence_s=declared.silence_s,
                stall_s=declared.stall_s,
                on_log=partial(_hear, ear),
            )
            is_cancelled = control.is_cancel_requested
        if outcome.error is not None:
            raise ear.failed(outcome.error)
        return None if is_cancelled else outcome.output

    def _warm(self, ear: Ear) -> TellingGroup:
        """The group of the last run, or a new one: the first, or after a run that broke it."""
        if self._group is not None and self._group.is_usable():
            return self._group
        if self._forkserver is None:
            self._forkserver = ForkServer.start([self._spec], counts_devices=False)
        name = self._task.declaration.name
        [described] = [task for task in self._forkserver.tasks if task.name == name]
        try:
            self._group = TellingGroup.start(
                dataclasses.replace(described, world_size=self._ranks),
                forkserver=self._forkserver,
                settings=Settings(),
                on_log=partial(_hear, ear),
            )
        except GroupFailed as failed:
            raise ear.failed(failed.error) from None
        return self._group


def spec_of(cls: type) -> str:
    """Where other processes find a class: its module, if that is part of a package that can be imported,
    else its file. ValueError for a class that nobody else could find."""
    if "." in cls.__qualname__:
        raise ValueError(
            f"{cls.__qualname__} cannot be imported by other processes, as ranks= asks for: "
            "it must stand at the top of its module"
        )
    package, is_part, _ = cls.__module__.partition(".")
    if is_part and PathFinder.find_spec(package, sys.path) is not None:
        return cls.__module__
    return inspect.getfile(cls)


def _hear(ear: Ear, rank: int, stream: str, text: str) -> None:
    ear.line(rank, stream, text)
    # A test's own output shows it, too.
    print(f"rank {rank} | {text}", file=sys.stdout if stream == "stdout" else sys.stderr)
