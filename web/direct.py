"""The direct stream: one POST submits a job and answers with its results as they arrive.

Made for clients of a few lines: `data: {json}` frames and nothing else, the output last. Where there is
no output the last frame is `{"error": …}`, and the connection is cut. It has no ids and cannot be
resumed; the headers name the job, whose own stream can. A client that leaves cancels the job (tie.py).
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import flask
import orjson

from rankcast.tasks.errors import StoreUnavailable, UnknownJob
from rankcast.tasks.event import END, GAP, RESET, RESULT, START, Event
from rankcast.tasks.eventlog import Start
from rankcast.tasks.state import JobState
from rankcast.web import auth, sse
from rankcast.web.arrival import arrived_at
from rankcast.web.auth import needs
from rankcast.web.body import flag, input_object, json_body
from rankcast.web.problems import problem
from rankcast.web.responses import broken_off, stream_response, urls
from rankcast.web.services import Services, services
from rankcast.web.stream import Reader
from rankcast.web.tie import Tie

#: How long a client has all of it before it is cut off: what its page has not read by then, a browser drops
#: (Streams Standard, ReadableStreamDefaultControllerError: it empties the queue).
LINGER_S = 0.5

routes = flask.Blueprint("direct", __name__)


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
    is_detached = flag("detach")
    job_input = input_object(json_body())
    job_id = to.submitter.submit(task, job_input, owner=auth.owner(), posted_at=arrived_at()).job_id
    try:
        return answer(job_id, is_detached=is_detached)
    except StoreUnavailable:
        return _not_followed(job_id)


def _not_followed(job_id: str) -> flask.Response:
    """No Retry-After: another POST would run the job twice."""
    response = problem(
        503,
        slug="not-followed",
        title="Job queued, but not followed",
        detail="Redis went away after the job was queued; its own stream will have all of it",
        job_id=job_id,
        urls=urls(job_id),
    )
    response.headers.update(_head(job_id))
    return response


def answer(job_id: str, *, is_detached: bool, outward: Callable[[bytes], bytes] = bytes) -> flask.Response:
    """The stream of a job that was submitted for it; `outward` makes of each event's data, and of the output,
    what this client is to get, all JSON text. StoreUnavailable: the job goes on, but cannot be followed."""
    to = services()
    viewer = to.hub.follow(job_id)
    tie = Tie(job_id, is_detached=is_detached)
    reader = Reader(
        viewer=viewer,
        start=Start(START),
        keepalive_s=to.settings.keepalive_s,
        # It cannot be resumed elsewhere: it is never sent away, and may use all the time that the
        # process has left.
        ends_with_process=False,
    )

    def close() -> None:
        viewer.leave()
        tie.close()

    frames = _frames(_results(reader, job_id, to.store.output), tie, outward)
    return stream_response(frames, headers=_head(job_id), on_close=close)


def _head(job_id: str) -> dict[str, str]:
    return {"X-Rankcast-Job-Id": job_id, "Link": f'<{urls(job_id)["stream"]}>; rel="monitor"'}


class _NoOutput(Exception):
    """How the job ended instead, or why the stream cannot tell: the `error` that its client is sent."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.error = error


def _frames(results: Iterator[bytes | None], tie: Tie, outward: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """The body, one write a frame; the first is due at once, with the head.

    Clients of a few lines take a body that ends in order for a whole one, so that of a failed job does not.
    """
    yield sse.KEEPALIVE_WITHOUT_IDS
    try:
        for data in results:
            yield sse.KEEPALIVE_WITHOUT_IDS if data is None else sse.data_frame(outward(data))
        tie.loosen()
    except _NoOutput as ended:
        # If the job goes on, then for whoever comes back to its own stream.
        tie.loosen()
        yield sse.data_frame(orjson.dumps({"error": ended.error}))
        time.sleep(LINGER_S)
        raise broken_off() from None


def _results(reader: Reader, job_id: str, output_of: Callable[[str], bytes | None]) -> Iterator[bytes | None]:
    """What the job streams, and its output, as JSON text; None is a keepalive due. _NoOutput."""
    try:
        for batches in reader:
            if batches is None:
                yield None
                continue
            for event in [event for batch in batches for event in batch.events]:
                if event.kind == RESULT:
                    yield event.data
                elif event.kind == END:
                    yield _output(event, job_id, output_of)
                    return
                elif event.kind in _BROKEN:
                    raise _broken(event.kind, _BROKEN[event.kind], job_id)
    except (UnknownJob, StoreUnavailable) as error:
        raise _broken("lost", str(error), job_id) from error
    raise _broken("leaving", "this server ends; the job goes on", job_id)


#: Why a direct stream cannot go on: it has no way to tell a client to forget what it was sent.
_BROKEN = {
    GAP: "results were trimmed from the job's log before this client had read them",
    RESET: "Redis lost part of the job's log",
}


def _broken(kind: str, message: str, job_id: str) -> _NoOutput:
    return _NoOutput({"kind": kind, "message": message, "job_id": job_id, "urls": urls(job_id)})


def _output(event: Event, job_id: str, output_of: Callable[[str], bytes | None]) -> bytes:
    """Of a job that ended so. _NoOutput."""
    end: dict[str, Any] = orjson.loads(event.data)
    if end["state"] != JobState.SUCCEEDED:
        raise _NoOutput(end.get("error", {}))
    if "output" in end:
        return orjson.dumps(end["output"])
    # Too large for the event.
    return output_of(job_id) or b"null"
