"""The life of a job, as one table.

Whether a job may move from one state to another is decided here and nowhere else; the Lua
scripts are tested against this table. This module knows nothing of Redis, Celery or HTTP.
"""

from enum import StrEnum


class JobState(StrEnum):
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    # FAILED without an attempt: the start timeout ran out first.
    JobState.QUEUED: frozenset({JobState.STARTING, JobState.CANCELLED, JobState.FAILED}),
    # Back to QUEUED when the attempt was lost (its worker died, its lease ran out) or drained.
    # Never SUCCEEDED: only a group that was ready, so RUNNING, can have returned something.
    JobState.STARTING: frozenset({JobState.QUEUED, JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, *TERMINAL}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


def may_move(old: JobState, new: JobState) -> bool:
    """Whether a job in `old` may become `new`."""
    return new in TRANSITIONS[old]
