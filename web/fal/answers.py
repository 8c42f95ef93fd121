"""Answers in fal's form: JSON, `x-fal-request-id` on each, and errors as fal's clients parse them.

    {"detail": "…" or [{"loc": ["body", "steps"], "msg": "…", "type": "…"}], "error_type": "…"}

They never carry 408 or 409, which fal's Python client sends again whatever the reason.
"""

import uuid
from typing import Any

import flask
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from rankcast.tasks.errors import InvalidInput, RankcastError
from rankcast.web import problems
from rankcast.web.fal.failures import Failure, fault
from rankcast.web.responses import json_response
from rankcast.web.services import services

REQUEST_ID = "x-fal-request-id"
#: fal's word for each status that a refusal may have.
ERROR_TYPES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    412: "bad_request",
    413: "payload_too_large",
    422: "bad_request",
    429: "queue_full",
    501: "not_implemented",
    503: "internal_error",
}


def refused(found: Failure) -> flask.Response:
    """The answer that says it."""
    body = {"detail": found.detail, "error_type": found.error_type}
    headers = {"X-Fal-Error-Type": found.error_type, **found.headers}
    return json_response(body, found.status, headers)


def refusal(status: int, detail: Any) -> flask.Response:
    """The same for what is refused before there is a job."""
    return refused(Failure(status, ERROR_TYPES.get(status, "internal_error"), detail))


def from_error(error: RankcastError) -> flask.Response:
    """One of our own errors, by its class."""
    if type(error).http_status == RankcastError.http_status:
        return from_bug(error)
    if isinstance(error, InvalidInput):
        return refusal(422, [fault(each.path, each.message) for each in error.faults])
    response = refusal(error.http_status, str(error))
    if error.http_status in (429, 503):
        response.headers["Retry-After"] = str(problems.RETRY_AFTER_S)
        response.headers["X-Fal-Needs-Retry"] = "1"
    if isinstance(error, problems.KeyNeeded):
        response.headers["WWW-Authenticate"] = problems.CHALLENGE
    return response


def from_http(error: HTTPException) -> flask.Response:
    """What Flask itself refuses."""
    response = refusal(error.code or 500, error.description or error.name)
    if (allow := dict(error.get_headers()).get("Allow")) is not None:
        response.headers["Allow"] = allow
    return response


def too_large(error: RequestEntityTooLarge) -> flask.Response:
    limit = services().settings.max_body_bytes
    return refusal(413, f"the body may have {limit} bytes at most; upload large inputs, and name their URL")


def from_bug(error: Exception) -> flask.Response:
    problems.tell_bug(error)
    return refusal(500, "Something went wrong here; the server's log has the details.")


def name_request(job_id: str) -> None:
    """The answer is about this job: `x-fal-request-id` names it."""
    flask.g.fal_request_id = job_id


def add_request_id(response: flask.Response) -> flask.Response:
    """On every answer of these routes; where no job is known, an id that is nobody's."""
    response.headers[REQUEST_ID] = flask.g.get("fal_request_id") or str(uuid.uuid4())
    return response
