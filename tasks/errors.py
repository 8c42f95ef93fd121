"""Every error that Rankcast raises on purpose, in one tree.

RankcastError
├── InvalidInput            422  the input does not fit the task's schema
├── UnknownTask             404  no worker ever registered a task of that name
├── JobError
│   ├── UnknownJob          404  no such job, or its time to live is over
│   ├── StaleAttempt        409  a newer attempt owns the job, or it has ended
│   └── Behind              409  the log lacks events before the ones offered
├── IdempotencyKeyReused    409  the key stands for a job that was asked for otherwise
├── QueueFull               429  the task's queue is at its limit
├── StoreUnavailable        503  Redis does not answer
├── InputNotFetched              what an input names cannot be had, or may not be
├── NotEncodable                 a value that has no JSON form, with its path
└── EventTooLarge                one event over the hard limit

Each carries the HTTP status that the web tier answers with (500 where none is named), and a
message that says what to do about it.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Fault(NamedTuple):
    """One thing wrong with an input: where (`$.steps`, JSONPath) and what."""

    path: str
    message: str


class RankcastError(Exception):
    """Base of all errors that Rankcast raises on purpose."""

    http_status = 500
    title = "Internal error"


class InvalidInput(RankcastError):
    """Raised when an input does not fit the task's schema; `faults` has every fault found."""

    http_status = 422
    title = "Input does not fit the task's schema"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{f.path}: {f.message}" for f in faults))
        self.faults = tuple(faults)


class UnknownTask(RankcastError):
    """Raised when no worker ever registered a task of that name."""

    http_status = 404
    title = "Unknown task"

    def __init__(self, name: str, known: Sequence[str] = ()) -> None:
        listed = ", ".join(sorted(known)) or "none; start a worker with --tasks"
        super().__init__(f"no worker has ever registered a task named {name!r} (registered: {listed})")
        self.name = name
        self.known = tuple(sorted(known))


class JobError(RankcastError):
    """Base of what can go wrong with one job."""


class UnknownJob(JobError):
    """Raised when there is no such job, or its time to live is over."""

    http_status = 404
    title = "Unknown job"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id!r} (ended jobs are forgotten after their time to live)")
        self.job_id = job_id


class StaleAttempt(JobError):
    """A newer attempt owns this job, or it has ended: stop work and write nothing more."""

    http_status = 409
    title = "Stale attempt"


class Behind(JobError):
    """The log ends at `last`, before the events offered: send again from `last + 1`."""

    http_status = 409
    title = "Event log is behind"

    def __init__(self, last: int) -> None:
        super().__init__(f"the event log ends at {last}; send again from {last + 1}")
        self.last = last


class IdempotencyKeyReused(RankcastError):
    """Raised when an idempotency key comes with another submit than the one it stands for."""

    http_status = 409
    title = "Idempotency key used for another submit"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"this idempotency key stands for job {job_id}, whose task, input or options differ; "
            "send the same again, or take a new key for a new job"
        )
        self.job_id = job_id


class QueueFull(RankcastError):
    """Raised when a task's queue is at its limit; try again later."""

    http_status = 429
    title = "Queue full"


class StoreUnavailable(RankcastError):
    """Raised when Redis does not answer; nothing was queued unless a retry shows otherwise."""

    http_status = 503
    title = "Redis is not reachable"


class InputNotFetched(RankcastError, ValueError):
    """Raised by `fetch_input` for what cannot be had, or may not be: unknown, too large, not allowed."""


class NotEncodable(RankcastError, TypeError):
    """A value that has no JSON form; `path` says where in the result it sits (`$.a[3].b`)."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path


class EventTooLarge(RankcastError, ValueError):
    """One event over the hard size limit: send it in parts, smaller, or less often."""
