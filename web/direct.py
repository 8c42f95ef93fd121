"""The direct stream: one POST submits a job and answers with its results as they arrive.

Made for clients of a few lines: `data: {json}` frames and nothing else, the output last. It has no
ids and cannot be resumed; the headers name the job, whose own stream can. A client that leaves does
not cancel the job.
"""

from collections.abc import Callable, Iterator
from typing import Any

import flask
import orjson

from rankcast.tasks.errors import StoreUnavailable, UnknownJob
from rankcast.tasks.event import END, GAP, RESET, RESULT, START, Event
from rankcast.tasks.eventlog import Start
from rankcast.tasks.state import JobState
from rankcast.web import auth, sse
from rankcast.web.auth import needs
from rankcast.web.body import input_object, json_body
from rankcast.web.hub import Viewer
from rankcast.web.problems import problem
from rankcast.web.responses import stream_response, urls
from rankcast.web.services import Services, services
from rankcast.web.stream import Reader

routes = flask.Blueprint("direct", __name__)


@routes.post("/run/<owner>/<name>/stream")
@needs("submit")
def run(owner: str, name: str) -> flask.Response:
    return _run(services(), f"{owner}/{name}")


@routes.post("/stream")
@needs("submit")
def run_default() -> flask.Response:
    to = services()
    if to.settings.default_task is not None:
        return _run(to, to.settings.default_task)
    known = [info.name for info in to.catalog.tasks()]
    if len(known) != 1:
        return _no_default(known)
    return _run(to, known[0])


def _no_default(known: list[str]) -> flask.Response:
    detail = "no worker has ever registered a task; start one with --tasks"
    if known:
        detail = "there are several tasks: POST /run/<task>/stream, or set RANKCAST_DEFAULT_TASK"
    return problem(404, slug="no-default-task", title="No default task", detail=detail, known=known)


def _run(to: Services, task: str) -> flask.Response:
    job_id = to.submitter.submit(task, input_object(json_body()), owner=auth.owner()).job_id
    headers = {"X-Rankcast-Job-Id": job_id, "Link": f'<{urls(job_id)["stream"]}>; rel="monitor"'}
    try:
        viewer = to.hub.follow(job_id)
    except StoreUnavailable:
        return _not_followed(job_id, headers)
    reader = Reader(
        viewer=viewer,
        event_log=to.event_log,
        start=Start(START),
        keepalive_s=to.settings.keepalive_s,
        # It cannot be resumed elsewhere: it is never sent away, and may use all the time that the
        # process has left.
        ends_with_process=False,
    )
    frames = _frames(reader, viewer, job_id, to.store.output)
    return stream_response(frames, headers=headers, on_close=viewer.leave)


def _not_followed(job_id: str, headers: dict[str, str]) -> flask.Response:
    """No Retry-After: another POST would run the job twice."""
    response = problem(
        503,
        slug="not-followed",
        title="Job queued, but not followed",
        detail="Redis went away after the job was queued; its own stream will have all of it",
        job_id=job_id,
        urls=urls(job_id),
    )
    response.headers.update(headers)
    return response


def _frames(
    reader: Reader, viewer: Viewer, job_id: str, output_of: Callable[[str], bytes | None]
) -> Iterator[bytes]:
    """The body, one write a frame; the first is due at once, with the head."""
    yield sse.KEEPALIVE_WITHOUT_IDS
    try:
        for batches in reader:
            if batches is None:
                yield sse.KEEPALIVE_WITHOUT_IDS
                continue
            for event in [event for batch in batches for event in batch.events]:
                if event.kind == RESULT:
                    yield sse.data_frame(event.data or b"null")
                elif event.kind == END:
                    yield _last(event, job_id, output_of)
                elif event.kind in _BROKEN:
                    yield _error(event.kind, _BROKEN[event.kind], job_id)
                    return
    except (UnknownJob, StoreUnavailable) as error:
        yield _error("lost", str(error), job_id)
    finally:
        viewer.leave()


#: Why a direct stream cannot go on: it has no way to tell a client to forget what it was sent.
_BROKEN = {
    GAP: "results were trimmed from the job's log before this client had read them",
    RESET: "Redis lost part of the job's log",
}


def _last(event: Event, job_id: str, output_of: Callable[[str], bytes | None]) -> bytes:
    """The frame that says how the job ended: its output, or `{"error": ...}`."""
    end: dict[str, Any] = orjson.loads(event.data or b"{}")
    if end["state"] != JobState.SUCCEEDED:
        return sse.data_frame(orjson.dumps({"error": end.get("error", {})}))
    if "output" in end:
        return sse.data_frame(orjson.dumps(end["output"]))
    # Too large for the event.
    return sse.data_frame(output_of(job_id) or b"null")


def _error(kind: str, message: str, job_id: str) -> bytes:
    error = {"kind": kind, "message": message, "job_id": job_id, "urls": urls(job_id)}
    return sse.data_frame(orjson.dumps({"error": error}))
