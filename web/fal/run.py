"""`fal.run`: one POST runs a job and is answered with its output, or streams it.

The job belongs to the connection, unless `?detach=1` (../tie.py). Nothing can be resumed here: what a client
missed it finds by the id in `x-fal-request-id`, at `queue.fal.run` or at /jobs.
"""

import flask

from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.event import START
from rankcast.tasks.eventlog import Start
from rankcast.web import direct, sse
from rankcast.web.auth import needs
from rankcast.web.body import flag
from rankcast.web.fal import ids, missing, requests, values
from rankcast.web.services import services
from rankcast.web.stream import Reader
from rankcast.web.tie import Tie

REDIS_AWAY = "Redis went away"
LEAVING = "this server ends"

routes = flask.Blueprint("run", __name__, url_prefix="/run")


@routes.post("/<path:app>")
@needs("submit")
def run(app: str) -> flask.Response:
    """A stream where the path ends so, or where the client takes one: any path may be one with fal."""
    asked = requests.app_id(app)
    without_last, last = ids.without_last(asked)
    if last == ids.REALTIME:
        return missing.realtime()
    if last == ids.STREAM:
        return _stream(without_last.task)
    if sse.CONTENT_TYPE in flask.request.headers.get("Accept", ""):
        return _stream(asked.task)
    return _run(asked.task)


def _stream(task: str) -> flask.Response:
    is_detached, outward = flag("detach"), values.outlet()
    job_id = requests.submit(task).job_id
    try:
        return direct.answer(job_id, is_detached=is_detached, outward=outward)
    except StoreUnavailable:
        return requests.goes_on(task, job_id, REDIS_AWAY)


def _run(task: str) -> flask.Response:
    is_detached = flag("detach")
    job_id = requests.submit(task).job_id
    tie = Tie(job_id, is_detached=is_detached)
    try:
        _wait(job_id)
        record = services().store.record(job_id)
        if record.state.is_terminal:
            return requests.ended(record)
        return requests.goes_on(task, job_id, LEAVING)
    except StoreUnavailable:
        return requests.goes_on(task, job_id, REDIS_AWAY)
    finally:
        tie.loosen()


def _wait(job_id: str) -> None:
    """Until the job ends, or this process does. UnknownJob, StoreUnavailable."""
    to = services()
    viewer = to.hub.follow(job_id)
    reader = Reader(
        viewer=viewer,
        start=Start(START),
        keepalive_s=to.settings.keepalive_s,
        ends_with_process=False,
    )
    try:
        for _ in reader:
            pass
    finally:
        viewer.leave()
