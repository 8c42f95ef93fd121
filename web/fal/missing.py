"""What fal has and Rankcast has not: said in fal's form, and what to do instead."""

import flask

from rankcast.web.auth import needs
from rankcast.web.fal.answers import refusal

routes = flask.Blueprint("missing", __name__)


def realtime() -> flask.Response:
    return refusal(501, "realtime connections are not there: submit, and watch the stream, instead")


@routes.post("/rest/tokens")
@needs("submit")
def token() -> flask.Response:
    """Clients ask for one before they open such a connection."""
    return realtime()


@routes.get("/run/<path:app>/realtime")
@needs("read")
def connection(app: str) -> flask.Response:
    """As a websocket begins."""
    return realtime()
