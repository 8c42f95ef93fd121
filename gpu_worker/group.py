"""Step 5. A rank group, as its worker holds it: start it, run a call on it, end it.

    new ──start──▶ starting ──▶ ready ◀──run──▶ busy
                       └──────────┴────────▶ broken ──▶ closed

The thread that calls `start` or `run` supervises: it waits for the pipes, the prints and the ends
of all ranks at once, and for its deadlines. It never polls, and nothing that a rank does or omits
blocks it. Other threads reach it through the call's Control.

A rank that fails takes its group with it, unless all ranks came back to wait for the next call and
none is owed anything by a peer (verdict.may_go_on). Who hangs beside a failed rank is not waited for.
"""

import contextlib
import logging
import os
import selectors
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import partial
from typing import ClassVar, Self

from rankcast.gpu_worker.forkserver import ForkServer, ForkServerLost, TaskDescription
from rankcast.gpu_worker.member import Member
from rankcast.gpu_worker.messages import (
    Call,
    Cancel,
    CancelSeen,
    Done,
    Failed,
    Message,
    Ready,
    Rendezvous,
    Settle,
    Settled,
    Shutdown,
    Start,
    StorePort,
)
from rankcast.gpu_worker.moments import Marks
from rankcast.gpu_worker.oom import OomWatch
from rankcast.gpu_worker.pipe import frame
from rankcast.gpu_worker.remains import Remains
from rankcast.gpu_worker.supervision import Control, Cut, Deadlines
from rankcast.gpu_worker.verdict import Ending, cause, may_go_on
from rankcast.gpu_worker.vigil import STOPPED_S, Vigil
from rankcast.tasks.errors import RankcastError
from rankcast.tasks.job import JobErrorInfo
from rankcast.tasks.settings import Settings

#: After one rank failed: for the others to tell what they know, before they are killed.
STRAGGLER_GRACE_S = 1.0
#: The same after a rank was ended by a signal: that is the cause, whatever the others say.
DEATH_GRACE_S = 0.3
#: For killed processes to be gone. One inside an uninterruptible system call stays for longer; the job
#: ends without it, and the slot waits.
REAP_TIMEOUT_S = 2.0
CLOSE_GRACE_S = 5.0
#: A wait that takes so much longer than it was meant to was not the ranks' doing.
OVERSLEPT_S = 1.0

#: Gets each line that a rank writes: rank, "stdout" or "stderr", text.
OnLog = Callable[[int, str, str], None]

logger = logging.getLogger(__name__)


class GroupState(StrEnum):
    NEW = "new"
    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    BROKEN = "broken"
    CLOSED = "closed"


class GroupFailed(RankcastError):
    """Raised when a group does not come up; `error` says why, in the words of a job's error. `remains`
    are its own, where it had begun."""

    def __init__(self, error: JobErrorInfo, remains: Remains | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.remains = remains


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a call. Exactly one of `output` (JSON text) and `error` is there.

    `final_seq` is the last event that rank 0 knows to be in the log; 0 when it did not live to say.
    `marks` are its moments.
    """

    output: bytes | None
    error: JobErrorInfo | None
    final_seq: int
    is_group_usable: bool
    marks: Marks = field(default_factory=dict)


class RankGroup:
    """The ranks of one task on one slot, each running RANK. One thread at a time uses it. Made by `start`."""

    RANK: ClassVar[str] = "rankcast.gpu_worker.rank"

    def __init__(self, task: TaskDescription, on_log: OnLog, oom: OomWatch) -> None:
        self.task = task
        self.state = GroupState.NEW
        #: Whether every rank had the task's module from its fork.
        self.is_preloaded = False
        #: What may be left of it once it is closed.
        self.remains = Remains(())
        self._on_log = on_log
        self._oom = oom
        self._members: list[Member] = []
        #: How ranks failed in this start or call, in the order in which it became known.
        self._endings: list[Ending] = []
        self._control: Control | None = None
        #: The call whose events rank 0 is still to settle, if that was asked.
        self._unsettled: str | None = None
        #: Over the start or the call that runs.
        self._vigil: Vigil | None = None
        self._selector = selectors.DefaultSelector()

    @classmethod
    def start(
        cls,
        task: TaskDescription,
        *,
        forkserver: ForkServer,
        settings: Settings,
        on_log: OnLog,
        devices: Sequence[int] = (),
        threads: int | None = None,
        control: Control | None = None,
        oom: OomWatch | None = None,
    ) -> Self:
        """A group whose ranks have all run `setup`, within `task.setup_timeout_s`.

        `devices` has the CUDA device of each rank, and is empty on the CPU; ranks that share one
        talk over gloo. `threads` is what each rank may use of the CPU (default: its share of the
        cores). `settings` reach rank 0, which publishes. `on_log` is called from this thread. `oom`
        says whether a SIGKILL was for want of memory (default: this system's count).

        GroupFailed, with nothing left running, when a rank raises, ends or is stopped, when it takes
        too long, and when `control` asks for it.
        """
        group = cls(task, on_log, oom or OomWatch())
        try:
            group._start(forkserver, settings, tuple(devices), threads, control)
        except ForkServerLost as error:
            group.kill()
            raise GroupFailed(JobErrorInfo(kind="group_lost", message=str(error)), group.remains) from error
        except Cut as cut:
            group.kill()
            raise GroupFailed(cut.error, group.remains) from None
        except BaseException:
            group.kill()
            raise
        return group

    @property
    def pids(self) -> tuple[int, ...]:
        """The ranks' processes, in order of rank."""
        return tuple(member.pid for member in self._members)

    def is_usable(self) -> bool:
        """Whether `run` may be called: it is ready, and no rank has ended or been stopped since. A
        group that lost a rank while it waited is killed here."""
        if self.state is GroupState.READY:
            self._serve(0.0)
            if self._endings or any(member.has_hung_up or member.is_stopped for member in self._members):
                self.kill()
        return self.state is GroupState.READY

    def run(
        self,
        call: Call,
        *,
        control: Control,
        timeout_s: float | None = None,
        silence_s: float | None = None,
        stall_s: float | None = None,
        on_log: OnLog | None = None,
    ) -> Outcome:
        """Run the task once on every rank and say what became of it; ranks cannot make it raise.

        All that a rank wrote before it returned has reached `on_log` (default: that of `start`)
        before this returns. An error names the rank whose failure was the cause. A group that is
        not usable any more has been killed, and is gone.

        The group is killed after `timeout_s`; when a rank was not heard for `silence_s`: something in
        it holds the interpreter's lock, or it is frozen; sooner when its process is stopped; and when
        none of them showed any progress for `stall_s`, to the second. None: no limit.
        """
        self._enter(GroupState.BUSY, GroupState.READY)
        # What a rank wrote between two jobs belongs to neither.
        self._read_output()
        own_on_log, self._on_log = self._on_log, on_log or self._on_log
        self._vigil = Vigil(self._members, silence_s=silence_s, stall_s=stall_s)
        try:
            return self._conclude(self._supervise(call, control, timeout_s))
        except BaseException:
            self.kill()
            raise
        finally:
            self._on_log, self._vigil = own_on_log, None

    def kill(self) -> None:
        """SIGKILL to every rank and to all that it started, and wait until they are gone, or for
        REAP_TIMEOUT_S. Does no harm twice."""
        if self.state is GroupState.CLOSED:
            return
        self.state = GroupState.BROKEN
        self.remains = Remains(self.pids)
        for member in self._members:
            member.kill()
        deadline = time.monotonic() + REAP_TIMEOUT_S
        for member in self._members:
            if not member.wait(deadline - time.monotonic()):
                logger.error("rank %d (pid %d) hangs in the kernel and does not die", member.rank, member.pid)
            member.close()
        self.remains.end(deadline - time.monotonic())
        self._selector.close()
        self.state = GroupState.CLOSED

    def close(self, grace_s: float = CLOSE_GRACE_S) -> None:
        """Let the ranks run `teardown` and exit; kill what is left after `grace_s`."""
        if self.state is GroupState.READY:
            deadlines = Deadlines()
            deadlines.set("close", grace_s)
            self._send_all(Shutdown())
            while not (all(member.has_ended for member in self._members) or deadlines.have_passed()):
                self._serve(deadlines.left_s())
        self.kill()

    def _start(
        self,
        forkserver: ForkServer,
        settings: Settings,
        devices: tuple[int, ...],
        threads: int | None,
        control: Control | None,
    ) -> None:
        self._enter(GroupState.STARTING, GroupState.NEW)
        deadlines = Deadlines(control.limit if control else None)
        message = f"the group was not ready after {self.task.setup_timeout_s:g} s"
        deadlines.set("setup", self.task.setup_timeout_s, JobErrorInfo(kind="setup_timeout", message=message))
        fork = partial(forkserver.fork, self.RANK, is_fresh=self.task.unforkable is not None)
        self._oom.mark()
        for rank in range(self.task.world_size):
            self._members.append(Member.bear(rank, fork, self._selector, self))
        for member, order in zip(self._members, self._orders(settings, devices, threads), strict=True):
            member.send(frame(order))
        self._vigil = Vigil(self._members, silence_s=None, stall_s=None)
        with self._heeding(control):
            self._wait(deadlines, call=None)
        self._vigil = None
        if self._endings:
            raise Cut(cause(self._endings, is_setup=True, has_memory_run_out=self._oom.has_risen))
        self.is_preloaded = all(isinstance(m.report, Ready) and m.report.is_preloaded for m in self._members)
        self._read_output()
        self._enter(GroupState.READY, GroupState.STARTING)

    def _orders(self, settings: Settings, devices: tuple[int, ...], threads: int | None) -> Iterator[Start]:
        size = self.task.world_size
        for rank in range(size):
            yield Start(
                task=self.task.name,
                spec=self.task.spec,
                rank=rank,
                world_size=size,
                device=devices[rank] if devices else None,
                backend="nccl" if len(set(devices)) == size else "gloo",
                threads=threads or max(1, (os.cpu_count() or 1) // size),
                settings=asdict(settings),
            )

    def _supervise(self, call: Call, control: Control, timeout_s: float | None) -> JobErrorInfo | None:
        """Have the call run until the ranks have told its end; the error of what cut that short."""
        deadlines = Deadlines(control.limit)
        if timeout_s is not None:
            message = f"it ran longer than {timeout_s:g} s"
            deadlines.set("run", timeout_s, JobErrorInfo(kind="run_timeout", message=message))
        for member in self._members:
            member.report = None
        self._oom.mark()
        self._send_all(call)
        try:
            with self._heeding(control):
                self._wait(deadlines, call)
                self._let_settle(deadlines, call)
        except Cut as cut:
            return cut.error
        return None

    def _conclude(self, cut: JobErrorInfo | None) -> Outcome:
        reports = [member.report for member in self._members]
        first = reports[0] if isinstance(reports[0], Done | Failed) else Done()
        output, error = None, cut
        if cut is None and isinstance(first, Done) and all(isinstance(report, Done) for report in reports):
            output = (first.output or "null").encode()
        elif cut is None:
            error = cause(self._endings, has_memory_run_out=self._oom.has_risen)
        has_lost_one = any(ending.failed is None for ending in self._endings)
        is_usable = cut is None and not has_lost_one and (error is None or may_go_on(reports))
        if is_usable:
            self._endings.clear()
            self._read_output()
            self._enter(GroupState.READY, GroupState.BUSY)
        else:
            self.kill()
        return Outcome(
            output=output,
            error=error,
            final_seq=first.final_seq,
            is_group_usable=is_usable,
            marks=first.marks,
        )

    def _wait(self, deadlines: Deadlines, call: Call | None) -> None:
        """Serve the ranks until each has told its end or has ended, or until one failed and the
        others had their grace. Cut when a deadline or the control comes first."""
        while not all(member.report or member.has_ended for member in self._members):
            self._heed(deadlines, call)
            if self._endings:
                is_settled = any(ending.is_death for ending in self._endings)
                deadlines.set("stragglers", DEATH_GRACE_S if is_settled else STRAGGLER_GRACE_S)
            if deadlines.have_passed():
                return
            limits = (deadlines.left_s(), self._vigil.left_s() if self._vigil else None)
            timeout_s = min((limit for limit in limits if limit is not None), default=None)
            began = time.monotonic()
            self._serve(timeout_s)
            late_s = time.monotonic() - began - (timeout_s or 0.0)
            if self._vigil and timeout_s is not None and late_s > OVERSLEPT_S:
                self._vigil.overslept()

    def _let_settle(self, deadlines: Deadlines, call: Call) -> None:
        """A rank 0 that does not follow the failed ones is killed soon, and may have told what Redis has
        yet to take. Waits for as long as it is heard and the attempt is ours."""
        first = self._members[0]
        if first.report or first.has_ended or any(ending.is_death for ending in self._endings):
            return
        self._unsettled = call.job_id
        first.send(frame(Settle(call.job_id)))
        while self._unsettled and not first.has_ended:
            self._heed(deadlines, call)
            if (left_s := first.heard_s + STOPPED_S - time.monotonic()) <= 0:
                return
            self._serve(left_s)

    def _heed(self, deadlines: Deadlines, call: Call | None) -> None:
        """Do what other threads asked for."""
        control = self._control
        if control is None:
            return
        if control.is_abandoned:
            raise Cut(JobErrorInfo(kind="worker_lost", message="the worker gave the attempt up"))
        if not control.is_cancel_requested or "cancel" in deadlines:
            return
        if call is None:
            raise Cut(JobErrorInfo(kind="cancelled", message="the job was cancelled while its group started"))
        grace_s = self.task.cancel_grace_s
        message = f"the job was cancelled and did not stop by itself within {grace_s:g} s"
        deadlines.set("cancel", grace_s, JobErrorInfo(kind="cancelled", message=message))
        self._send_all(Cancel(call.job_id))

    def _serve(self, timeout_s: float | None) -> None:
        """Wait for something that a rank or another thread did, and deal with it."""
        for key, mask in self._selector.select(timeout_s):
            key.data(mask)

    @contextlib.contextmanager
    def _heeding(self, control: Control | None) -> Iterator[None]:
        if control is None:
            yield
            return
        self._control = control
        self._selector.register(control, selectors.EVENT_READ, lambda mask: control.rest())
        try:
            yield
        finally:
            self._selector.unregister(control)
            self._control = None

    def _send_all(self, message: Message) -> None:
        framed = frame(message)
        for member in self._members:
            member.send(framed)

    def _read_output(self) -> None:
        for member in self._members:
            member.read_output()

    def _enter(self, state: GroupState, *from_: GroupState) -> None:
        if self.state not in from_:
            raise RuntimeError(f"a group that is {self.state} cannot become {state}")
        self.state = state

    # What members tell

    def on_message(self, member: Member, message: Message) -> None:
        match message:
            case Done() if self._vigil is not None:
                self._vigil.returned()
            case Failed():
                self._endings.append(Ending(member.rank, failed=message))
            case StorePort(port):
                framed = frame(Rendezvous(port))
                for peer in self._members:
                    if peer is not member:
                        peer.send(framed)
            case Settled(job_id) if job_id == self._unsettled:
                self._unsettled = None
            case CancelSeen() if self._control is not None:
                self._control.request_cancel()

    def on_end(self, member: Member, exitcode: int | None) -> None:
        # A rank that told why its start failed ends by itself: how it does says nothing new.
        if not (self.state is GroupState.STARTING and isinstance(member.report, Failed)):
            self._endings.append(Ending(member.rank, exitcode=exitcode))

    def on_line(self, rank: int, stream: str, text: str) -> None:
        self._on_log(rank, stream, text)
