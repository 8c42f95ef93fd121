"""Read first. Step 4. One attempt at a job, from its claim to its end.

    slot ──▶ claim ──▶ group, loaded now ──▶ start ──▶ call ──▶ decide ──▶ finish
                 └───▶ group, warm ────────────────────▶┘          └─────▶ give back

The claim's fence and token are the right to do all this; once Redis refuses them, the attempt stops
and writes nothing more. Whatever else goes wrong here ends the job with an error that says what, or
gives it back; nothing leaves it hanging, and nothing that a job does harms the next one on its slot.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rankcast.gpu_worker.checkpoints import is_here
from rankcast.gpu_worker.decision import LOSSES, GiveBack, decide
from rankcast.gpu_worker.forkserver import TaskDescription
from rankcast.gpu_worker.group import GroupFailed, RankGroup
from rankcast.gpu_worker.joblogs import JobLines, LogWriter
from rankcast.gpu_worker.lease import LeaseKeeper
from rankcast.gpu_worker.loading import Loader, drop_broken_group, hand_back, what_is_left
from rankcast.gpu_worker.messages import Call
from rankcast.gpu_worker.moments import DECIDED, DISPATCHED, STARTED, Moments
from rankcast.gpu_worker.settings import WorkerSettings
from rankcast.gpu_worker.slots import Slot, Slots
from rankcast.gpu_worker.supervision import Control, Limit
from rankcast.tasks.disk import remove
from rankcast.tasks.errors import Behind, StaleAttempt, StoreUnavailable, UnknownJob
from rankcast.tasks.job import Claim, JobErrorInfo, Outcome, new_token
from rankcast.tasks.redo import KEEP_S
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore

#: Between two tries to reach Redis.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
#: Between two tries to end a job whose last events a restarted Redis has not been told again yet.
BEHIND_PAUSE_S = 0.2

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the attempts of one worker share."""

    worker_id: str
    settings: WorkerSettings
    store: JobStore
    slots: Slots[RankGroup]
    loader: Loader
    leases: LeaseKeeper
    logs: LogWriter
    #: Set when no new attempt may begin, and when those that run must end.
    is_draining: threading.Event = field(default_factory=threading.Event)
    is_leaving: threading.Event = field(default_factory=threading.Event)
    running: "set[Attempt]" = field(default_factory=set)


class Ran(Enum):
    """What a wake-up came to."""

    NOTHING = auto()
    ENDED = auto()
    #: The job waits in its queue for another attempt.
    GIVEN_BACK = auto()


def run_attempt(parts: Parts, task: TaskDescription, job_id: str | None) -> Ran:
    """Make an attempt at `job_id` if it is queued, else at the next job of `task`; NOTHING where there
    is none, or no slot that could run it now.

    StoreUnavailable when the worker drains while Redis is away; then it is not known whether a job
    was claimed, and the lease says so to others.
    """
    slot = parts.slots.acquire(task.name)
    if slot is None:
        return Ran.NOTHING
    try:
        if parts.is_draining.is_set():
            # It began while this waited for a slot.
            return Ran.NOTHING
        drop_broken_group(slot)
        if what_is_left(slot):
            return Ran.NOTHING
        token = new_token()
        # The same token each time: a claim whose reply was lost is found again, not made twice.
        claim = insist(
            lambda: parts.store.claim(
                task=task.name,
                token=token,
                worker=parts.worker_id,
                job_id=job_id,
                is_warm=slot.is_warm_for(task.name),
            ),
            give_up=parts.is_draining,
        )
        if claim is None:
            return Ran.NOTHING
        return Attempt(parts, task, slot, claim).run()
    finally:
        hand_back(parts.slots, slot)


class Attempt:
    """One claimed job. `cancel`, `lose` and `leave` come from other threads; `run` does all the rest."""

    def __init__(self, parts: Parts, task: TaskDescription, slot: Slot[RankGroup], claim: Claim) -> None:
        self._parts = parts
        self._task = task
        self._slot = slot
        self._claim = claim
        self._control = Control(_limit(task, claim))
        self._lines = JobLines(parts.logs, parts.settings.host, claim.job_id)
        self._is_leaving = False
        self._is_lost = False
        self._final_seq = 0
        self._moments = Moments()
        self._metrics: dict[str, Any] = {
            "cold": not slot.is_warm_for(task.name),
            "queue_ms": claim.waited_ms,
            "load_ms": 0,
            "run_ms": 0,
        }

    def cancel(self) -> None:
        """Somebody asked for the job to end."""
        self._control.request_cancel()

    def lose(self) -> None:
        """The job is another attempt's, or has ended: stop and write nothing more."""
        self._is_lost = True
        self._control.abandon()

    def leave(self) -> None:
        """The worker must go: stop, and give the job back."""
        self._is_leaving = True
        self._control.abandon()

    def run(self) -> Ran:
        """Bring the claimed job to an end, or give it back."""
        self._slot.job_id = self._claim.job_id
        with self._control:
            self._parts.leases.keep(self._claim, self)
            self._parts.running.add(self)
            try:
                state = self._run()
            except (StaleAttempt, UnknownJob) as gone:
                logger.warning("job %s: attempt %d stops: %s", self._claim.job_id, self._claim.attempt, gone)
                return Ran.ENDED
            finally:
                self._parts.running.discard(self)
                self._parts.leases.drop(self._claim)
        return Ran.GIVEN_BACK if state is JobState.QUEUED else Ran.ENDED

    def _run(self) -> JobState:
        claim, warmth = self._claim, "cold" if self._metrics["cold"] else "warm"
        logger.info(
            "job %s: attempt %d of %s on slot %d, %s",
            claim.job_id, claim.attempt, claim.task, self._slot.index, warmth,
        )  # fmt: skip
        decided = self._work()
        self._lines.flush()
        if self._is_lost:
            raise StaleAttempt("another owns the job")
        if isinstance(decided, GiveBack):
            state, why = self._give_back(decided), decided.reason
        else:
            state, why = self._finish(decided), decided.error.message if decided.error else ""
        why = f" ({why})" if why else ""
        logger.info("job %s: %s after %d ms%s", claim.job_id, state, self._metrics["run_ms"], why)
        return state

    def _work(self) -> Outcome | GiveBack:
        """Load, start, call; what becomes of the job is what this returns."""
        try:
            group = self._group()
        except GroupFailed as failed:
            if failed.error.kind in LOSSES:
                pause_s = self._parts.slots.back_off(self._slot, self._task.name)
                logger.warning(
                    "slot %d backs off from %s for %g s", self._slot.index, self._task.name, pause_s
                )
            return self._decide(None, failed.error)
        if self._is_cancelled_at_start():
            return self._decide(None, JobErrorInfo(kind="cancelled", message="the job was cancelled"))
        return self._call(group)

    def _is_cancelled_at_start(self) -> bool:
        """The group is ready. Of one that was loaded Redis is told so, which may have been long after the
        claim; on a warm one the first event of its call, moments from now, says the same."""
        is_cancelled = self._metrics["cold"] and self._insist(lambda: self._parts.store.start(self._claim))
        self._moments.mark(STARTED)
        return is_cancelled or self._control.is_cancel_requested

    def _group(self) -> RankGroup:
        """The group of this slot, loaded if it is not there."""
        if self._slot.group is not None and self._slot.is_warm_for(self._task.name):
            return self._slot.group
        began = time.monotonic()
        try:
            # Printed while it loads: the job's. The group keeps these lines, the call has its own.
            lines = JobLines(self._parts.logs, self._parts.settings.host, self._claim.job_id)
            return self._parts.loader.load(self._slot, self._task, control=self._control, lines=lines)
        finally:
            self._metrics["load_ms"] = _ms_since(began)

    def _call(self, group: RankGroup) -> Outcome | GiveBack:
        claim, began = self._claim, time.monotonic()
        rules = self._parts.settings.file_rules(claim)
        asked_s = claim.options.timeout_s
        self._moments.mark(DISPATCHED)
        try:
            told = group.run(
                Call(
                    job_id=claim.job_id,
                    fence=claim.fence,
                    token=claim.token,
                    attempt=claim.attempt,
                    input=claim.input.decode(),
                    checkpoints=str(self._parts.settings.checkpoints(claim.deployment)),
                    files=asdict(rules),
                    **self._beginning(),
                ),
                control=self._control,
                timeout_s=self._task.timeout_s if asked_s is None else asked_s,
                silence_s=self._task.silence_s,
                stall_s=self._task.stall_s,
                on_log=self._lines,
            )
        finally:
            self._metrics["run_ms"] = _ms_since(began)
            drop_broken_group(self._slot)
            remove(Path(rules.scratch))
        self._final_seq = told.final_seq
        self._moments.take(told.marks)
        return self._decide(told.output, told.error)

    def _beginning(self) -> dict[str, Any]:
        """From which checkpoint the call goes on. Looked for once, so that all ranks get one answer."""
        claim, told = self._claim, self._claim.checkpoint
        if told is None:
            return {}
        if is_here(self._parts.settings.checkpoints(claim.deployment), claim.job_id, told):
            return {"resumes_from": told}
        notice = (
            f"starts anew: the checkpoint of attempt {told['attempt']} is not on this host; "
            "give all workers one --shared folder"
        )
        logger.warning("job %s: attempt %d %s", claim.job_id, claim.attempt, notice)
        return {"notice": notice}

    def _decide(self, output: bytes | None, error: JobErrorInfo | None) -> Outcome | GiveBack:
        if self._is_leaving and error is not None:
            return GiveBack(reason="its worker had to stop")
        self._moments.mark(DECIDED)
        return decide(
            output,
            error,
            self._metrics | {"moments_ms": self._moments.told()},
            retries_left=self._task.retries - self._claim.retried,
            is_cancelled=self._control.is_cancel_requested,
        )

    def _finish(self, outcome: Outcome) -> JobState:
        give_up_at, is_cut = time.monotonic() + KEEP_S, False
        while True:
            finish = partial(self._parts.store.finish, self._claim, outcome, self._final_seq, is_cut=is_cut)
            try:
                return self._insist(finish)
            except Behind as behind:
                # Redis lost its newest seconds after rank 0 had seen them there: rank 0 sends them again.
                if time.monotonic() < give_up_at:
                    # Not a wait that a worker which leaves cuts short: it would ask without a pause.
                    time.sleep(BEHIND_PAUSE_S)
                    continue
                logger.error("job %s: events from %d on are lost", self._claim.job_id, behind.last + 1)
                self._final_seq, is_cut = behind.last, True
                # The one that started it may be among them.
                self._insist(lambda: self._parts.store.start(self._claim))

    def _give_back(self, decided: GiveBack) -> JobState:
        return self._insist(
            lambda: self._parts.store.release(
                self._claim,
                is_loss=decided.is_loss,
                is_retry=decided.is_retry,
                reason=decided.reason,
                error=decided.error,
            )
        )

    def _insist(self, call: Callable[[], T]) -> T:
        return insist(call, give_up=self._parts.is_leaving)


def _limit(task: TaskDescription, claim: Claim) -> Limit | None:
    asked_s = claim.options.total_timeout_s
    total_s = task.total_timeout_s if asked_s is None else asked_s
    if total_s is None:
        return None
    message = f"the job did not end within {total_s:g} s of its submit"
    left_s = total_s - claim.waited_ms / 1000
    return Limit(time.monotonic() + left_s, JobErrorInfo(kind="total_timeout", message=message))


def insist(call: Callable[[], T], *, give_up: threading.Event) -> T:
    """Call until Redis answers. StoreUnavailable only once `give_up` is set."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return call()
        except StoreUnavailable as error:
            if pause_s == FIRST_PAUSE_S:
                logger.warning("an attempt waits for Redis: %s", error)
            if give_up.wait(pause_s):
                raise
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
