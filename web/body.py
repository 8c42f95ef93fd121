"""Reading requests: JSON bodies and query parameters, checked before anything is asked of Redis."""

import re
from typing import Any

import flask
import orjson
from werkzeug.exceptions import RequestEntityTooLarge

from rankcast.tasks.errors import Fault, InvalidInput, UnknownJob
from rankcast.tasks.idempotency import MAX_LENGTH, IdempotencyKey, is_well_formed
from rankcast.tasks.job import JobOptions, option_faults
from rankcast.web.problems import BadRequest
from rankcast.web.services import services

#: Of any job id there ever was. Without a colon, so that no id can name another key in Redis.
JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
#: How clients write that something is wanted, or not.
FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}
_SUBMIT_FIELDS = frozenset({"task", "input", "options"})


def json_body() -> Any:
    """The body as JSON, whatever its content type says; {} where there is none.

    BadRequest for what is not JSON (NaN and Infinity are not, RFC 8259 section 6).
    RequestEntityTooLarge over the limit.
    """
    text = flask.request.get_data(cache=False)
    # A body without Content-Length is cut off by Werkzeug at its limit, in silence; create_app has
    # set that one byte higher than ours. (files.py has another.)
    if len(text) > services().settings.max_body_bytes:
        raise RequestEntityTooLarge
    if not text.strip():
        return {}
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None


def input_object(value: Any) -> dict[str, Any]:
    """An input, which is always an object: its fields are the task's parameters."""
    if not isinstance(value, dict):
        raise InvalidInput([Fault("$", f"must be an object, not {_json_type(value)}")])
    return value


def submission() -> tuple[str, dict[str, Any], JobOptions]:
    """Task name, input and options of a `POST /jobs`; InvalidInput with all faults of the envelope."""
    body = json_body()
    if not isinstance(body, dict):
        raise InvalidInput([Fault("$", f"must be an object, not {_json_type(body)}")])
    faults = [
        Fault(f"$.{name}", "is unknown; a job has task, input and options")
        for name in body.keys() - _SUBMIT_FIELDS
    ]
    task, job_input, options = body.get("task"), body.get("input", {}), body.get("options", {})
    if not isinstance(task, str):
        faults.append(Fault("$.task", "must be the name of a task, 'owner/name'"))
    if not isinstance(job_input, dict):
        faults.append(Fault("$.input", f"must be an object, not {_json_type(job_input)}"))
    if not isinstance(options, dict):
        faults.append(Fault("$.options", f"must be an object, not {_json_type(options)}"))
    else:
        faults += [Fault(f"$.options.{name}", message) for name, message in option_faults(options)]
    if faults:
        raise InvalidInput(faults)
    return str(task), job_input, JobOptions(**options)


def idempotency_key(route: str, *, api_key: str) -> IdempotencyKey | None:
    """That of a submit at `route`, such as `POST /jobs`, by `api_key`; None where it brings none.

    BadRequest for one that is empty, too long or not printable.
    """
    value = flask.request.headers.get("Idempotency-Key")
    if value is None:
        return None
    if not is_well_formed(value):
        raise BadRequest(f"Idempotency-Key must have 1 to {MAX_LENGTH} printable ASCII characters")
    return IdempotencyKey(value=value, route=route, api_key=api_key)


def job_id_of(text: str) -> str:
    """A job id from a path; UnknownJob for what cannot be one."""
    if not JOB_ID.fullmatch(text):
        raise UnknownJob(text[:128])
    return text


def whole_number(name: str, *, default: int, largest: int) -> int:
    """A query parameter from 1 to `largest`; BadRequest for anything else."""
    text = flask.request.args.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not 1 <= int(text) <= largest:
        raise BadRequest(f"{name} must be a whole number from 1 to {largest}, not {text[:40]!r}")
    return int(text)


def flag(name: str) -> bool:
    """A query parameter that is 1 or 0, in words too; what is not there is false. BadRequest."""
    text = flask.request.args.get(name, "")
    if text.lower() not in FLAGS:
        raise BadRequest(f"{name} must be 1 or 0, true or false, not {text[:40]!r}")
    return FLAGS[text.lower()]


def _json_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
    return "an object"
