"""Jobs over HTTP: submit, look, watch, cancel, list. One function a route."""

from typing import Any

import flask

from rankcast.tasks.errors import UnknownTask
from rankcast.tasks.event import EventId
from rankcast.tasks.eventlog import Start
from rankcast.tasks.job import JobRecord
from rankcast.tasks.state import JobState
from rankcast.tasks.summary import attempts, figures, summary, timings
from rankcast.web import sse, tokens
from rankcast.web.arrival import arrived_at
from rankcast.web.auth import needs, owner, seen_owner, shown_key, signed_urls, visible
from rankcast.web.body import idempotency_key, submission, whole_number
from rankcast.web.problems import BadRequest, problem
from rankcast.web.responses import json_response, stream_response, urls
from rankcast.web.services import Services, services
from rankcast.web.stream import STREAM, chunks, open_stream

LARGEST_LIST = 500
LARGEST_LOGS = 10_000
#: Seconds after which to ask for the result again.
RESULT_RETRY_AFTER_S = 1

routes = flask.Blueprint("jobs", __name__)


@routes.post("/jobs")
@needs("submit")
def submit() -> flask.Response:
    task, job_input, options = submission()
    key = idempotency_key("POST /jobs", api_key=owner())
    created = services().submitter.submit(
        task, job_input, options, key=key, owner=owner(), posted_at=arrived_at()
    )
    body = {
        "job_id": created.job_id,
        "task": task,
        "state": created.state,
        "queue_position": created.queue_position,
        "attempt": created.attempt,
        "workers": created.workers,
        "urls": signed_urls(created.job_id),
    }
    headers = {"Location": f"/jobs/{created.job_id}"}
    if created.is_replayed:
        headers["Idempotency-Replayed"] = "true"
    return json_response(body, 202, headers)


@routes.get("/jobs/<job_id>")
@needs("read")
def show(job_id: str) -> flask.Response:
    record = services().store.record(visible(job_id))
    detail = {
        "workers": _workers(record.task),
        "input": record.input,
        "checkpoint": record.checkpoint,
        "metrics": figures(record),
        "timings": timings(record),
        "attempts": attempts(record),
        "urls": signed_urls(job_id),
    }
    return json_response(_listed(record) | detail)


@routes.get("/jobs/<job_id>/stream")
@needs("read", by_token=tokens.STREAM)
def stream(job_id: str) -> flask.Response:
    to, job_id = services(), visible(job_id)
    start = _start(to, job_id)
    if start.is_complete:
        # EventSource takes it as "do not come back".
        return flask.Response(status=204, headers=sse.HEADERS)
    if flask.request.method == "HEAD":
        return stream_response(())
    found = flask.request.environ[STREAM] = open_stream(to, job_id, start, shown_key())
    return stream_response(chunks(found), on_close=found.leave)


def _start(to: Services, job_id: str) -> Start:
    """Where the viewer begins: behind its cursor, or without one where its URL says.

    A cursor comes first because EventSource comes back with it to the same URL.
    """
    request = flask.request
    # Most have no query: to look into none takes as long as all else here.
    args = request.args if request.query_string else {}
    cursor = request.headers.get("Last-Event-ID") or args.get("last_event_id")
    begin = args.get("from", "start")
    if begin not in ("start", "now"):
        raise BadRequest(f"from must be 'start' or 'now', not {begin[:40]!r}")
    if begin == "start" or cursor:
        return to.hub.locate(job_id, cursor)
    position = to.event_log.position(job_id)
    return Start(position.last, is_complete=position.end_id is not None)


@routes.get("/jobs/<job_id>/result")
@needs("read")
def result(job_id: str) -> flask.Response:
    store, job_id = services().store, visible(job_id)
    state = services().event_log.position(job_id).state
    if not state.is_terminal:
        retry_after = {"Retry-After": str(RESULT_RETRY_AFTER_S)}
        return json_response({"job_id": job_id, "state": state, "urls": urls(job_id)}, 202, retry_after)
    if state == JobState.SUCCEEDED:
        return flask.Response(store.output(job_id) or b"null", content_type="application/json")
    error = store.record(job_id).error or {}
    return problem(
        409 if state == JobState.CANCELLED else 500,
        slug=f"job-{state}",
        title=f"Job {state}",
        detail=str(error.get("message", "")),
        job_id=job_id,
        error=error,
    )


@routes.post("/jobs/<job_id>/cancel")
@needs("submit")
def cancel(job_id: str) -> flask.Response:
    reply = services().store.cancel(visible(job_id))
    body = {"job_id": job_id, "state": reply.state, "urls": urls(job_id)}
    return json_response(body, 200 if reply.is_ended else 202)


@routes.get("/jobs/<job_id>/logs")
@needs("read")
def logs(job_id: str) -> flask.Response:
    """What the ranks printed, oldest first; `?after=` takes the `cursor` of the answer before."""
    to, job_id = services(), visible(job_id)
    after = flask.request.args.get("after", "0-0")
    try:
        EventId.parse(after)
    except ValueError:
        raise BadRequest(f"after must be the cursor of an earlier answer, not {after[:40]!r}") from None
    limit = whole_number("limit", default=LARGEST_LOGS, largest=LARGEST_LOGS)
    # Before the lines, so that whoever is told of the end has all that was printed before it. It also
    # raises UnknownJob; a job without any lines has no logs in Redis.
    state = to.event_log.position(job_id).state
    lines = to.logs.read(job_id, after=after, limit=limit)
    body = {
        "job_id": job_id,
        "state": state,
        "logs": [{"id": line_id} | line._asdict() for line_id, line in lines],
        "cursor": lines[-1][0] if lines else after,
    }
    return json_response(body)


@routes.get("/jobs")
@needs("read")
def listing() -> flask.Response:
    """Newest first; `cursor` of the answer asks for those after them, null when there are no more."""
    args = flask.request.args
    state = args.get("state")
    if state is not None and state not in set(JobState):
        raise BadRequest(f"state must be one of {', '.join(JobState)}, not {state[:40]!r}")
    try:
        page = services().store.list(
            task=args.get("task"),
            state=None if state is None else JobState(state),
            limit=whole_number("limit", default=50, largest=LARGEST_LIST),
            cursor=args.get("cursor"),
            owner=seen_owner(),
        )
    except ValueError:
        raise BadRequest("cursor must be the cursor of an earlier answer") from None
    return json_response({"jobs": [_listed(record) for record in page.records], "cursor": page.cursor})


def _listed(record: JobRecord) -> dict[str, Any]:
    return summary(record) | {"urls": urls(record.job_id)}


def _workers(task: str) -> int:
    """Live workers that serve the task now."""
    try:
        return services().catalog.task(task).workers
    except UnknownTask:
        return 0
