"""`queue.fal.run`: submit, status, result and cancel of a request, which is a job.

A request is submitted by the whole id of an endpoint, and asked for again by `owner/alias`; longer
ids are understood there as well.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import flask
import orjson

from rankcast.tasks.errors import StoreUnavailable, UnknownJob
from rankcast.tasks.event import END, STATE
from rankcast.tasks.eventlog import Start
from rankcast.tasks.job import JobRecord
from rankcast.tasks.live import Batch
from rankcast.tasks.logs import LogLine
from rankcast.web import sse
from rankcast.web.auth import needs, visible
from rankcast.web.body import flag
from rankcast.web.fal import answers, ids, requests, statuses, values
from rankcast.web.responses import broken_off, json_response, stream_response
from rankcast.web.services import Services, services
from rankcast.web.stream import Reader

#: Lines and places in the queue change without an event: how often a status stream looks.
LOOK_S = 1.0
LOG_PAGE = 10_000

routes = flask.Blueprint("queue", __name__, url_prefix="/queue")


@routes.post("/<path:app>")
@needs("submit")
def submit(app: str) -> flask.Response:
    if "fal_webhook" in flask.request.args:
        return answers.refusal(501, "webhooks are not there: watch the request, or its stream, instead")
    task = requests.app_id(app).task
    created = requests.submit(task)
    body = {
        "status": "IN_QUEUE",
        "request_id": created.job_id,
        "gateway_request_id": created.job_id,
        "queue_position": created.queue_position or 0,
        **statuses.urls(values.public_base(), task, created.job_id),
    }
    return json_response(body)


@routes.get("/<path:app>/requests/<job_id>/status")
@needs("read")
def status(app: str, job_id: str) -> flask.Response:
    """202 until it has ended: one client of fal's goes by that alone."""
    wants_logs = flag("logs")
    record = _record(app, job_id)
    lines = _Lines(services(), job_id).new() if wants_logs else None
    body = statuses.status(record, values.public_base(), lines)
    return json_response(body, 200 if record.state.is_terminal else 202)


@routes.get("/<path:app>/requests/<job_id>/status/stream")
@needs("read")
def status_stream(app: str, job_id: str) -> flask.Response:
    """A status object each time that something has changed; of the lines the new ones."""
    to, wants_logs = services(), flag("logs")
    _record(app, job_id)
    viewer = to.hub.follow(job_id)
    try:
        position = to.event_log.position(job_id)
    except BaseException:
        viewer.leave()
        raise
    reader = Reader(
        viewer=viewer,
        start=Start(position.last),
        keepalive_s=LOOK_S,
        ends_with_process=False,
    )
    base, lines = values.public_base(), _Lines(to, job_id) if wants_logs else None

    def look() -> dict[str, Any]:
        # The state first: whoever is told of the end has all that was printed before it.
        record = to.store.record(job_id)
        return statuses.status(record, base, None if lines is None else lines.new())

    return stream_response(_changes(reader, look, to.settings.keepalive_s), on_close=viewer.leave)


@routes.get("/<path:app>/requests/<job_id>")
@routes.get("/<path:app>/requests/<job_id>/response")
@needs("read")
def result(app: str, job_id: str) -> flask.Response:
    record = _record(app, job_id)
    if not record.state.is_terminal:
        return answers.refusal(400, "Request is still in progress")
    return requests.ended(record)


@routes.put("/<path:app>/requests/<job_id>/cancel")
@needs("submit")
def cancel(app: str, job_id: str) -> flask.Response:
    _record(app, job_id)
    reply = services().store.cancel(job_id)
    if reply.is_ended:
        body = {"status": "ALREADY_COMPLETED", "detail": "the request has ended already"}
        return json_response(body, 400)
    if reply.state.is_terminal:
        return json_response({"status": "OK"})
    return json_response({"status": "CANCELLATION_REQUESTED"}, 202)


def _record(app: str, job_id: str) -> JobRecord:
    """The job, if it is one of this app. UnknownJob."""
    record = services().store.record(visible(job_id))
    if ids.app_of(record.task) != requests.app_id(app).app:
        raise UnknownJob(job_id)
    answers.name_request(job_id)
    return record


class _Lines:
    """What a job has printed, each line once."""

    def __init__(self, to: Services, job_id: str) -> None:
        self._logs, self._job_id, self._after = to.logs, job_id, "0-0"

    def new(self) -> list[LogLine]:
        found = self._logs.read(self._job_id, after=self._after, limit=LOG_PAGE)
        if found:
            self._after = found[-1][0]
        return [line for _, line in found]


def _changes(reader: Reader, look: Callable[[], dict[str, Any]], keepalive_s: float) -> Iterator[bytes]:
    """The body: the first status at once, then one for each change, to the end of the job."""
    told = look()
    yield _frame(told)
    told_at = looked_at = time.monotonic()
    for batches in () if told["status"] == "COMPLETED" else reader:
        now = time.monotonic()
        if not _is_due(batches, now - looked_at):
            continue
        looked_at = now
        try:
            seen = look()
        except StoreUnavailable:
            seen = told | {"logs": None}
        if seen.get("logs") or _without_logs(seen) != _without_logs(told):
            told, told_at = seen, now
            yield _frame(seen)
        elif now - told_at >= keepalive_s:
            told_at = now
            yield sse.KEEPALIVE_WITHOUT_IDS
        if seen["status"] == "COMPLETED":
            return
    if told["status"] != "COMPLETED":
        # This process ends. A body that ends in order would say that the request has.
        raise broken_off()


def _is_due(batches: list[Batch] | None, since_s: float) -> bool:
    if batches is None or since_s >= LOOK_S:
        return True
    return any(event.kind in (STATE, END) for batch in batches for event in batch.events)


def _without_logs(status: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in status.items() if name != "logs"}


def _frame(status: dict[str, Any]) -> bytes:
    return sse.data_frame(orjson.dumps(status))
