"""Step 5. Whether the ranks of a running call are still heard, and whether they get on.  Pure rules."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rankcast.gpu_worker.supervision import Cut
from rankcast.tasks.job import JobErrorInfo


class Watched(Protocol):
    """What is known of a rank: gpu_worker.member.Member."""

    rank: int
    #: Its answer to the call, if it gave one.
    report: Any
    has_ended: bool
    #: When it was last heard, and how long its call had shown no progress then.
    heard_s: float
    quiet_s: float


class Vigil:
    """Watches the ranks of one call. `silence_s` and `stall_s` as `@task` has them; None: no limit."""

    def __init__(
        self,
        ranks: Sequence[Watched],
        *,
        silence_s: float | None,
        stall_s: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ranks = ranks
        self._silence_s = silence_s
        self._stall_s = stall_s
        self._clock = clock
        self._returned_at = clock()
        for rank in ranks:
            rank.heard_s, rank.quiet_s = clock(), 0.0

    def returned(self) -> None:
        """A rank came back from its call."""
        self._returned_at = self._clock()

    def overslept(self) -> None:
        """The watcher stood still itself, its host or its whole control group frozen: that nobody was
        heard meanwhile says nothing, so the wait begins anew."""
        for rank in self._ranks:
            rank.heard_s = self._clock()

    def left_s(self) -> float | None:
        """How long until a rank will have been silent for too long; Cut once one has, and once none
        got on for too long. None: no limit."""
        at_work = [rank for rank in self._ranks if rank.report is None and not rank.has_ended]
        if not at_work:
            return None
        self._check_progress(at_work)
        if self._silence_s is None:
            return None
        least = min(at_work, key=lambda rank: rank.heard_s)
        left_s = least.heard_s + self._silence_s - self._clock()
        if left_s <= 0:
            message = f"rank {least.rank} was not heard for {self._silence_s:g} s"
            raise Cut(JobErrorInfo(kind="rank_frozen", message=message, rank=least.rank))
        return left_s

    def _check_progress(self, at_work: Sequence[Watched]) -> None:
        if self._stall_s is None:
            return
        # A rank that returned is a sign of progress, too: the others may end on their own now.
        quiet_s = min(self._clock() - self._returned_at, *(rank.quiet_s for rank in at_work))
        if quiet_s >= self._stall_s:
            message = f"no rank streamed, asked should_stop() or said alive() for {self._stall_s:g} s"
            raise Cut(JobErrorInfo(kind="stalled", message=message))
