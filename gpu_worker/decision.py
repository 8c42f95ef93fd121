"""Step 4. What becomes of a job, from what its group told of the attempt.  Pure rules."""

from dataclasses import dataclass
from typing import Any

from rankcast.tasks.job import JobErrorInfo, Outcome
from rankcast.tasks.state import JobState

#: Came from outside, so another attempt may fare better: it is made, up to the limit of losses.
LOSSES = frozenset({"group_lost", "rank_frozen"})
#: No attempt was begun: it costs the job nothing.
NOT_BEGUN = frozenset({"slot_not_free"})
#: Will most likely happen again: tried again only as often as the task's `retries` says.
RETRIED = frozenset({"exception", "exited", "setup_failed", "oom_killed", "storage_full"})


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBack:
    """The job goes back to its queue: this attempt has no outcome."""

    reason: str
    is_loss: bool = False
    is_retry: bool = False
    error: JobErrorInfo | None = None


def decide(
    output: bytes | None,
    error: JobErrorInfo | None,
    metrics: dict[str, Any],
    *,
    retries_left: int = 0,
    is_cancelled: bool = False,
) -> Outcome | GiveBack:
    """An end for the job, or another attempt. Whether a cancel overrules it is for Redis to decide;
    but nothing is tried again once this worker knows of one."""
    if error is None:
        return Outcome(state=JobState.SUCCEEDED, output=output, metrics=metrics)
    if error.kind == "cancelled":
        return Outcome(state=JobState.CANCELLED, error=error, metrics=metrics)
    if not is_cancelled:
        if error.kind in LOSSES:
            return GiveBack(reason=error.message, is_loss=True, error=error)
        if error.kind in NOT_BEGUN:
            return GiveBack(reason=error.message)
        if error.kind in RETRIED and retries_left > 0:
            return GiveBack(reason=error.message, is_retry=True, error=error)
    return Outcome(state=JobState.FAILED, error=error, metrics=metrics)
