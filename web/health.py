"""For probes: `/healthz` says that this process answers, `/readyz` that it can do its work."""

import flask

from rankcast.web.responses import json_response
from rankcast.web.services import services

routes = flask.Blueprint("health", __name__)


@routes.get("/healthz")
def healthz() -> flask.Response:
    return json_response({"status": "ok"})


@routes.get("/readyz")
def readyz() -> flask.Response:
    """503 while Redis does not answer."""
    services().ping()
    return json_response({"status": "ready"})
