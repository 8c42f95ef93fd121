"""Errors as RFC 9457 problem details: the one form in which the native routes refuse.

`type` names the kind of problem for programs and never changes; `title` says it in words; `detail`
says what is wrong in this request. A stack trace is never part of it.
"""

import logging
from typing import Any

import flask
import orjson
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from rankcast.tasks.errors import (
    IdempotencyKeyReused,
    InvalidInput,
    QueueFull,
    RankcastError,
    StoreUnavailable,
    UnknownJob,
    UnknownTask,
)
from rankcast.web.places import TooManyStreams
from rankcast.web.responses import urls
from rankcast.web.services import services

CONTENT_TYPE = "application/problem+json"
#: Seconds after which it makes sense to try again; a restart of Redis and a free place in a queue
#: both take about so long.
RETRY_AFTER_S = 2

log = logging.getLogger(__name__)


class BadRequest(RankcastError):
    """Raised for a body that is not JSON, or a parameter that cannot be read."""

    http_status = 400
    title = "Bad request"


class KeyNeeded(RankcastError):
    """Raised for a request without a key, or with one that nobody has, or that was revoked."""

    http_status = 401
    title = "An API key is needed"


class ScopeMissing(RankcastError):
    """Raised for a key that may not do this; `needed` names the scope it lacks."""

    http_status = 403
    title = "The API key does not allow this"

    def __init__(self, needed: str) -> None:
        super().__init__(f"this API key lacks the scope {needed}")
        self.needed = needed


class ForeignRequest(RankcastError):
    """Raised for what a web page of somebody else's may have sent with its visitor's browser."""

    http_status = 403
    title = "Refused for the sake of browsers"


class KeysUnreadable(RankcastError):
    """Raised while the file of keys cannot be used; nobody is let in meanwhile."""

    http_status = 503
    title = "Keys cannot be checked"


class ContentTooLarge(RankcastError):
    """Raised for a file over its limit."""

    http_status = 413
    title = "Content too large"


class FileIsThere(RankcastError):
    """Raised for a file under the id of another: a reference leads to the same bytes for good."""

    http_status = 412
    title = "There is a file of that id"


class NoSharedFolder(RankcastError):
    """Raised where this web tier has no folder in common with workers."""

    http_status = 501
    title = "No place for files"


class StorageFull(RankcastError):
    """Raised when the shared folder takes no more."""

    http_status = 507
    title = "Storage full"


#: Both schemes take the same key (RFC 9110, section 11.6.1).
CHALLENGE = 'Bearer realm="rankcast", Key realm="rankcast"'

#: The last part of each problem's `type`. Names are for good: clients compare them.
SLUGS: dict[type[RankcastError], str] = {
    BadRequest: "bad-request",
    KeyNeeded: "key-needed",
    ScopeMissing: "scope-missing",
    ForeignRequest: "foreign-request",
    KeysUnreadable: "keys-unreadable",
    ContentTooLarge: "content-too-large",
    FileIsThere: "file-is-there",
    NoSharedFolder: "no-shared-folder",
    StorageFull: "storage-full",
    InvalidInput: "invalid-input",
    UnknownTask: "unknown-task",
    UnknownJob: "unknown-job",
    IdempotencyKeyReused: "idempotency-key-reused",
    QueueFull: "queue-full",
    TooManyStreams: "too-many-streams",
    StoreUnavailable: "redis-away",
}


def problem(
    status: int,
    *,
    slug: str,
    title: str,
    detail: str,
    retry_after_s: int | None = None,
    **members: Any,
) -> flask.Response:
    """A response that says what went wrong; `members` are RFC 9457's extension members."""
    body = {
        "type": f"urn:rankcast:problem:{slug}",
        "title": title,
        "status": status,
        "detail": detail,
        **members,
    }
    response = flask.Response(orjson.dumps(body), status, content_type=CONTENT_TYPE)
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response


def from_error(error: RankcastError) -> flask.Response:
    """One of our own errors, by its class."""
    slug = next((SLUGS[cls] for cls in type(error).__mro__ if cls in SLUGS), None)
    if slug is None:
        return from_bug(error)
    members: dict[str, Any] = {}
    if isinstance(error, InvalidInput):
        members["errors"] = [fault._asdict() for fault in error.faults]
    if isinstance(error, UnknownJob):
        members["job_id"] = error.job_id
    if isinstance(error, UnknownTask):
        members["known"] = error.known
    if isinstance(error, IdempotencyKeyReused):
        members |= {"job_id": error.job_id, "urls": urls(error.job_id)}
    if isinstance(error, ScopeMissing):
        members["needed"] = error.needed
    response = problem(
        error.http_status,
        slug=slug,
        title=error.title,
        detail=str(error),
        retry_after_s=RETRY_AFTER_S if error.http_status in (429, 503) else None,
        **members,
    )
    if isinstance(error, KeyNeeded):
        response.headers["WWW-Authenticate"] = CHALLENGE
    return response


def from_http(error: HTTPException) -> flask.Response:
    """What Flask itself refuses: no such route, wrong method, too large a body."""
    title = error.name.capitalize()
    response = problem(
        error.code or 500,
        slug=title.lower().replace(" ", "-"),
        title=title,
        detail=error.description or title,
    )
    # Allow, of a wrong method.
    for name, value in error.get_headers():
        if name.lower() != "content-type":
            response.headers[name] = value
    return response


def too_large(error: RequestEntityTooLarge) -> flask.Response:
    limit = services().settings.max_body_bytes
    return problem(
        413,
        slug="content-too-large",
        title="Content too large",
        detail=f"the body may have {limit} bytes at most; pass large inputs by URL",
    )


def from_bug(error: Exception) -> flask.Response:
    """Anything else is ours to mend: told in full to the log, and to the client only that it happened."""
    tell_bug(error)
    return problem(
        500,
        slug="internal-error",
        title="Internal error",
        detail="Something went wrong here; the server's log has the details.",
    )


def tell_bug(error: Exception) -> None:
    """Put it in the log, with its traceback."""
    log.error("request failed: %s %s", flask.request.method, flask.request.path, exc_info=error)
