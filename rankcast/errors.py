"""The errors that users of Rankcast meet: those of `tasks/errors.py`, and the ones only a client sees.

RankcastError
├── ServerUnreachable            nothing answers at that address (a ConnectionError too)
├── ConnectionLost               it answered, then the connection broke (a ConnectionError too)
├── RequestRefused               any other answer that is not 2xx; `status`, `problem`
│   └── NotAllowed               401 or 403: no key, one that is not known, or one that may not do this
├── NotATask                     `delay` on a class without `@task` (a TypeError too)
└── JobError
    ├── JobFailed                the job ended `failed`; `error` says why
    └── JobCancelled             the job ended `cancelled`
"""

from collections.abc import Mapping
from typing import Any

from rankcast.tasks.errors import (
    EventTooLarge,
    Fault,
    IdempotencyKeyReused,
    InputNotFetched,
    InvalidInput,
    JobError,
    NotEncodable,
    QueueFull,
    RankcastError,
    StoreUnavailable,
    UnknownJob,
    UnknownTask,
)

__all__ = [
    "ConnectionLost",
    "EventTooLarge",
    "Fault",
    "IdempotencyKeyReused",
    "InputNotFetched",
    "InvalidInput",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "NotATask",
    "NotAllowed",
    "NotEncodable",
    "QueueFull",
    "RankcastError",
    "RequestRefused",
    "ServerUnreachable",
    "StoreUnavailable",
    "UnknownJob",
    "UnknownTask",
]


class ServerUnreachable(RankcastError, ConnectionError):
    """Raised when no connection to the server can be made."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"nothing answers at {url} ({reason}): start it with `rankcast up --tasks FILE`, "
            "or name another address with RANKCAST_URL"
        )
        self.url = url


class ConnectionLost(RankcastError, ConnectionError):
    """Raised when a connection broke before the answer was complete.

    Whether the request took effect is not known: a submit may have queued its job.
    """


class RequestRefused(RankcastError):
    """Raised for an answer that is not 2xx and has no error class of its own.

    `status` is the HTTP status, `problem` the RFC 9457 members, empty where the body was not JSON.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        told = problem.get("detail") or problem.get("title") or "no details given"
        super().__init__(f"the server answered {status}: {told}")
        self.status = status
        self.problem = dict(problem)


class NotAllowed(RequestRefused):
    """Raised when the server asks for a key and got none, or one that it does not know (`status` 401),
    or one that may not do this (403)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(status, problem)
        cure = "set RANKCAST_KEY to a key of this server" if status == 401 else "another RANKCAST_KEY may"
        self.args = (f"{self} ({cure})",)


class NotATask(RankcastError, TypeError):
    """Raised when a class without `@task` of its own is asked to submit a job."""

    def __init__(self, cls: type) -> None:
        super().__init__(f'{cls.__qualname__} has no @task("owner/name"), so it cannot be submitted')


class JobFailed(JobError):
    """Raised by `Job.result` when the job ended `failed`.

    `error` has the members of the job's error object: kind and message, and rank, type, traceback,
    exitcode and signal where they are known.
    """

    http_status = 500
    title = "Job failed"

    def __init__(self, job_id: str, error: Mapping[str, Any]) -> None:
        super().__init__(f"job {job_id} failed: {describe(error)}")
        self.job_id = job_id
        self.error = dict(error)


class JobCancelled(JobError):
    """Raised by `Job.result` when the job ended `cancelled`."""

    http_status = 409
    title = "Job cancelled"

    def __init__(self, job_id: str, error: Mapping[str, Any]) -> None:
        super().__init__(f"job {job_id} was cancelled")
        self.job_id = job_id
        self.error = dict(error)


def describe(error: Mapping[str, Any]) -> str:
    """One line of a job's error object: `exception on rank 1: ValueError: no such size`."""
    where = "" if error.get("rank") is None else f" on rank {error['rank']}"
    kind = f"{error['type']}: " if error.get("type") else ""
    return f"{error.get('kind', 'unknown')}{where}: {kind}{error.get('message', '')}"
