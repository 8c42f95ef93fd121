"""Step 5. Whether the ranks of a running call are still heard, and whether they get on.  Pure rules."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rankcast.gpu_worker.supervision import Cut
from rankcast.tasks.job import JobErrorInfo

#: A rank that was not heard for this long is looked at: one whose process is stopped will not speak
#: again by itself. Three heartbeats, so that no rank is looked at that is only late.
STOPPED_S = 3.0
#: And then again, as long as it is not heard.
LOOK_AGAIN_S = 1.0


class Watched(Protocol):
    """What is known of a rank: gpu_worker.member.Member."""

    rank: int
    #: Its answer to the call, if it gave one.
    report: Any
    has_ended: bool
    #: When it was last heard, and how long its call had shown no progress then.
    heard_s: float
    quiet_s: float

    @property
    def is_stopped(self) -> bool:
        """Whether its process stands still by a signal, when this is asked."""


class Vigil:
    """Watches the ranks of one call, or of a start: there nobody speaks before it is ready, and a rank
    that is stopped is all that can be seen. `silence_s` and `stall_s` as `@task` has them; None: no
    limit."""

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
        """How long until the ranks must be looked at again; None when none is at work. Cut once one
        has stopped or was silent for too long, and once none got on for too long."""
        at_work = [rank for rank in self._ranks if rank.report is None and not rank.has_ended]
        if not at_work:
            return None
        self._check_progress(at_work)
        # The one that was silent for longest comes first: it is the one to name.
        at_work.sort(key=lambda rank: rank.heard_s)
        return min(self._patience_s(rank) for rank in at_work)

    def _patience_s(self, rank: Watched) -> float:
        silent_s = self._clock() - rank.heard_s
        if self._silence_s is not None and silent_s >= self._silence_s:
            raise _frozen(rank, f"rank {rank.rank} was not heard for {self._silence_s:g} s")
        if silent_s >= STOPPED_S and rank.is_stopped:
            raise _frozen(rank, f"rank {rank.rank} is stopped, and was not heard for {silent_s:.1f} s")
        left_s = STOPPED_S - silent_s if silent_s < STOPPED_S else LOOK_AGAIN_S
        return left_s if self._silence_s is None else min(left_s, self._silence_s - silent_s)

    def _check_progress(self, at_work: Sequence[Watched]) -> None:
        if self._stall_s is None:
            return
        # A rank that returned is a sign of progress, too: the others may end on their own now.
        quiet_s = min(self._clock() - self._returned_at, *(rank.quiet_s for rank in at_work))
        if quiet_s >= self._stall_s:
            message = f"no rank streamed, asked should_stop() or said alive() for {self._stall_s:g} s"
            raise Cut(JobErrorInfo(kind="stalled", message=message))


def _frozen(rank: Watched, message: str) -> Cut:
    return Cut(JobErrorInfo(kind="rank_frozen", message=message, rank=rank.rank))
