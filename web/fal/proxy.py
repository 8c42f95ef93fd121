"""`proxyUrl` of fal's JavaScript client: one URL for every call, which a header aims.

hosts.py has sent on whatever names one of fal's hosts; what comes here does not.
"""

import flask

from rankcast.web.auth import open_to_all
from rankcast.web.fal.answers import refusal
from rankcast.web.fal.hosts import PROXY_PATH
from rankcast.web.falhosts import SERVICES

routes = flask.Blueprint("proxy", __name__)


@routes.route(PROXY_PATH, methods=["GET", "POST", "PUT", "DELETE"])
@open_to_all
def refuse() -> flask.Response:
    target = flask.request.headers.get("x-fal-target-url")
    if target is None:
        return refusal(400, "Invalid request: the header x-fal-target-url is to name one of fal's URLs")
    return refusal(400, f"Invalid request: none of {', '.join(SERVICES)} is the host of {target[:200]!r}")
