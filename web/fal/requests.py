"""Requests of fal's clients are jobs: how one is made, and what came of it."""

import flask

from rankcast.tasks.errors import UnknownTask
from rankcast.tasks.job import JobOptions, JobRecord
from rankcast.tasks.state import JobState
from rankcast.tasks.store import Created
from rankcast.web import auth
from rankcast.web.arrival import arrived_at
from rankcast.web.body import input_object, json_body
from rankcast.web.fal import answers, ids, statuses, values
from rankcast.web.fal.failures import failure
from rankcast.web.fal.options import options_of
from rankcast.web.problems import BadRequest
from rankcast.web.services import services


def app_id(text: str) -> ids.AppId:
    """The id in a path. UnknownTask."""
    found = ids.parse(text)
    if found is None:
        raise UnknownTask(text, [info.name for info in services().catalog.tasks()])
    return found


def submit(task: str) -> Created:
    """Make this request a job, which the answer is about from here on."""
    job_input = values.inward(input_object(json_body()))
    created = services().submitter.submit(
        task, job_input, _options(), owner=auth.owner(), posted_at=arrived_at()
    )
    answers.name_request(created.job_id)
    return created


def _options() -> JobOptions:
    try:
        return options_of(flask.request.headers)
    except ValueError as error:
        raise BadRequest(str(error)) from None


def ended(record: JobRecord) -> flask.Response:
    """What came of a job that has ended: its output, or its failure as a status that is none of 2xx."""
    if record.state != JobState.SUCCEEDED:
        return answers.refused(failure(record.state, record.error or {}))
    output = services().store.output(record.job_id) or b"null"
    return flask.Response(values.outward(output), content_type="application/json")


def goes_on(task: str, job_id: str, why: str) -> flask.Response:
    """The answer where a client can be told no more. Not 503: its client would make the job once more."""
    where = statuses.urls(values.public_base(), task, job_id)["response_url"]
    return answers.refusal(500, f"{why}; the request goes on, and its result will be at {where}")
