"""The JavaScript client, as it lies in `static/`: for pages anywhere, which need nothing else from here.

Its jobs are another matter: any origin may load these files, and that alone.
"""

from pathlib import Path

import flask
from werkzeug.exceptions import NotFound

from rankcast.web.auth import open_to_all

FOLDER = Path(__file__).parent / "static"
#: What is served, by name. The types are ours: a host's own tables take .ts for a film.
CONTENT_TYPES = {
    "rankcast.js": "text/javascript",
    "rankcast.d.ts": "text/plain",
}

routes = flask.Blueprint("static", __name__)


@routes.get("/static/<name>")
@open_to_all
def static_file(name: str) -> flask.Response:
    """With an ETag: a browser asks each time and has 304 until the file changes, so a page never runs
    a client that is older than its server."""
    if name not in CONTENT_TYPES:
        raise NotFound
    response = flask.send_file(FOLDER / name, mimetype=CONTENT_TYPES[name])
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response
