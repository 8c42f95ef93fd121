"""How a job that did not succeed looks to fal's clients.  Pure.

A job has ended for good when this is told, after all the attempts that it was given. fal's clients
send some requests again by the status they get: 408, 409 and 429 (Python), 502, 503 and 504
(JavaScript), and of a `run` that would make the job anew. So no end has one of these, but a time-out
as 504 with the header that tells both of them to leave it at that.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rankcast.tasks.state import JobState

#: RFC 9110 has no code for it; nginx made this one up, and fal uses it.
CLIENT_CLOSED_REQUEST = 499


class Failure(NamedTuple):
    """Status, type and detail of an answer; `detail` is text, or a list of faults of the input."""

    status: int
    error_type: str
    detail: Any
    headers: Mapping[str, str] = {}


#: Says that the client's own time-out, and no passing weakness of the server, ended it.
_FINAL = {"X-Fal-Request-Timeout-Type": "user"}

#: Kind of a job's error -> status and fal's word for it. The rest is 500, `runner_server_error`.
_KINDS = {
    "start_timeout": (504, "request_timeout"),
    "total_timeout": (504, "request_timeout"),
    "run_timeout": (504, "request_timeout"),
    "stalled": (504, "request_timeout"),
    "setup_timeout": (504, "startup_timeout"),
    "worker_lost": (500, "runner_disconnected"),
    "group_lost": (500, "runner_disconnected"),
    "rank_frozen": (500, "runner_disconnected"),
    "oom_killed": (500, "runner_disconnected"),
    "setup_failed": (500, "runner_scheduling_failure"),
}


def failure(state: JobState, error: Mapping[str, Any]) -> Failure:
    """What `error` of a job that ended in `state` is to a client of fal's."""
    message = str(error.get("message", ""))
    if state == JobState.CANCELLED:
        return Failure(CLIENT_CLOSED_REQUEST, "client_cancelled", message or "the request was cancelled")
    status, error_type = _KINDS.get(str(error.get("kind")), (500, "runner_server_error"))
    if error.get("kind") == "invalid_input":
        return Failure(422, "bad_request", [fault("$", message)])
    return Failure(status, error_type, message, _FINAL if status == 504 else {})


def fault(path: str, message: str) -> dict[str, Any]:
    """One thing wrong with an input, as fal's model errors have it; `path` is JSONPath, `$.a[3].b`."""
    return {"loc": ["body", *_steps(path)], "msg": message, "type": "value_error"}


def _steps(path: str) -> list[str | int]:
    parts = path.removeprefix("$").replace("[", ".").replace("]", "").split(".")
    return [int(part) if part.isdigit() else part for part in parts if part]
