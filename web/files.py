"""Files that clients upload, to be named in inputs."""

import flask

from rankcast.tasks.artifacts import reference
from rankcast.tasks.uploads import tidy
from rankcast.web import tokens
from rankcast.web.auth import may_see, needs
from rankcast.web.download import download
from rankcast.web.problems import problem
from rankcast.web.receive import Limit, receive
from rankcast.web.responses import json_response
from rankcast.web.services import services

routes = flask.Blueprint("files", __name__)


@routes.post("/files")
@needs("submit")
def upload() -> flask.Response:
    """The body is the file, whatever its type; `?file_name=` says what it is called."""
    settings = services().settings
    if flask.request.mimetype == "multipart/form-data":
        return _no_form()
    name = tidy(flask.request.args.get("file_name", "")) or "file"
    most = settings.max_file_bytes
    limit = Limit(most, f"a file may have {most} bytes at most (RANKCAST_MAX_FILE_BYTES)")
    url, name, size = receive(name, limit=limit, ttl_s=settings.file_ttl_s)
    return json_response(reference(url, name, size), 201, {"Location": url})


@routes.get("/files/<file_id>/<name>")
@needs("read", by_token=tokens.FILE)
def show(file_id: str, name: str) -> flask.Response:
    to = services()
    uploads = to.folder.uploads() if to.folder else None
    is_seen = uploads is not None and may_see(uploads.owner(file_id) or "")
    opened = uploads.open(file_id, name) if uploads is not None and is_seen else None
    if opened is None:
        return problem(
            404,
            slug="unknown-file",
            title="Unknown file",
            detail=f"there is no file {name[:160]!r} of that id (uploads are kept for a while only)",
        )
    return download(opened, name=name, etag=file_id, cache_control="private, max-age=3600, immutable")


def _no_form() -> flask.Response:
    return problem(
        415,
        slug="unsupported-media-type",
        title="Unsupported media type",
        detail="send the file itself as the body: curl -T FILE -X POST '…/files?file_name=FILE'",
    )
