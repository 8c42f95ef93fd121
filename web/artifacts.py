"""What jobs have stored beside their logs."""

import flask

from rankcast.tasks.artifacts import Artifacts, file_name_of, reference, url_of
from rankcast.web import tokens
from rankcast.web.auth import needs, visible
from rankcast.web.download import download
from rankcast.web.problems import problem
from rankcast.web.responses import json_response
from rankcast.web.services import services

#: A name stands for the same bytes for good; a day is what jobs are kept unless they say otherwise.
CACHE_CONTROL = "private, max-age=86400, immutable"

routes = flask.Blueprint("artifacts", __name__)


@routes.get("/jobs/<job_id>/artifacts")
@needs("read")
def listing(job_id: str) -> flask.Response:
    """A reference to each, in the order in which they were written."""
    store = _store_of(job_id)
    found = []
    for name in store.names(job_id) if store else ():
        if (opened := store.open(job_id, name) if store else None) is not None:
            opened.file.close()
            found.append(reference(url_of(job_id, name), file_name_of(name), opened.size))
    return json_response({"job_id": job_id, "artifacts": found})


@routes.get("/jobs/<job_id>/artifacts/<name>")
@needs("read", by_token=tokens.ARTIFACTS)
def show(job_id: str, name: str) -> flask.Response:
    store = _store_of(job_id)
    opened = store.open(job_id, name) if store else None
    if opened is None:
        return _not_here(job_id, name)
    return download(opened, name=file_name_of(name), etag=f"{job_id}-{name}", cache_control=CACHE_CONTROL)


def _store_of(job_id: str) -> Artifacts | None:
    """Where the artifacts of a job are; None where this web tier sees no folder. UnknownJob."""
    to = services()
    # Once a job is forgotten its files are, too, also those that nobody has removed yet.
    to.event_log.position(visible(job_id))
    deployment = to.store.deployment()
    return None if to.folder is None or deployment is None else to.folder.store(deployment)


def _not_here(job_id: str, name: str) -> flask.Response:
    to = services()
    detail = f"job {job_id} has no artifact {name[:160]!r}"
    if to.folder is None:
        detail += " here: this web tier was started without --shared DIR, the folder of its workers"
    elif hosts := sorted({worker.host for worker in to.strangers()}):
        detail += (
            f" here: workers on {', '.join(hosts)} store in another folder; "
            "give all of them and the web tier one --shared DIR"
        )
    return problem(404, slug="unknown-artifact", title="Unknown artifact", detail=detail, job_id=job_id)
