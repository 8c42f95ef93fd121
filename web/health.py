"""For probes: `/healthz` says that this process answers, `/readyz` that it can do its work."""

import flask

from rankcast.web.auth import needs, open_to_all
from rankcast.web.responses import json_response
from rankcast.web.services import services

routes = flask.Blueprint("health", __name__)


@routes.get("/healthz")
@open_to_all
def healthz() -> flask.Response:
    return json_response({"status": "ok"})


@routes.get("/readyz")
@needs("read")
def readyz() -> flask.Response:
    """503 while Redis does not answer."""
    services().ping()
    return json_response({"status": "ready"})
