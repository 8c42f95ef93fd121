"""What an answer that is not 2xx means: RFC 9457 problems as the errors that they are.  Pure."""

from collections.abc import Mapping
from typing import Any, NoReturn

from rankcast.errors import (
    Fault,
    IdempotencyKeyReused,
    InvalidInput,
    NotAllowed,
    QueueFull,
    RequestRefused,
    StoreUnavailable,
    UnknownJob,
    UnknownTask,
)
from rankcast.http_io import Reply
from rankcast.transport import Outcome


def outcome_of(reply: Reply, job_id: str) -> Outcome | None:
    """What `GET /jobs/<id>/result` says; None before the job's end."""
    if reply.status == 202:
        return None
    if reply.is_success:
        return Outcome("succeeded", reply.json(), {})
    problem = reply.problem()
    match _kind(problem):
        case "job-failed":
            return Outcome("failed", None, problem["error"])
        case "job-cancelled":
            return Outcome("cancelled", None, problem["error"])
    refuse(reply, job_id=job_id)


def refuse(reply: Reply, *, job_id: str = "", task: str = "") -> NoReturn:
    """Raise what a non-2xx answer stands for, by its problem's type; RFC 9457, section 3.1.1."""
    problem = reply.problem()
    detail = str(problem.get("detail") or f"the server answered {reply.status}")
    match _kind(problem):
        case "unknown-task":
            raise UnknownTask(task, problem.get("known", ()))
        case "unknown-job":
            raise UnknownJob(problem.get("job_id", job_id))
        case "invalid-input":
            raise InvalidInput([Fault(fault["path"], fault["message"]) for fault in problem["errors"]])
        case "idempotency-key-reused":
            raise IdempotencyKeyReused(problem["job_id"])
        case "queue-full":
            raise QueueFull(detail)
    if reply.status in (401, 403):
        raise NotAllowed(reply.status, problem)
    # A proxy answers so too, while the server behind it restarts.
    if reply.status in (502, 503, 504):
        raise StoreUnavailable(detail)
    raise RequestRefused(reply.status, problem)


def _kind(problem: Mapping[str, Any]) -> str:
    """The last part of a problem's `type`, which is what programs tell problems apart by."""
    return str(problem.get("type", "")).rpartition(":")[2]
