"""Files that clients upload, to be named in inputs; they are on disk as they arrive, and never in memory."""

import errno
from collections.abc import Iterator
from functools import partial

import flask

from rankcast.tasks.artifacts import reference
from rankcast.tasks.disk import FULL
from rankcast.tasks.uploads import Upload, tidy
from rankcast.web import tokens
from rankcast.web.auth import may_see, needs, owner
from rankcast.web.download import CHUNK_BYTES, download
from rankcast.web.problems import BadRequest, problem
from rankcast.web.responses import json_response
from rankcast.web.services import services

routes = flask.Blueprint("files", __name__)


@routes.post("/files")
@needs("submit")
def upload() -> flask.Response:
    """The body is the file, whatever its type; `?file_name=` says what it is called."""
    to = services()
    if to.folder is None:
        return _no_folder()
    if flask.request.mimetype == "multipart/form-data":
        return _no_form()
    if (flask.request.content_length or 0) > to.settings.max_file_bytes:
        return _too_large()
    name = tidy(flask.request.args.get("file_name", "")) or "file"
    begin = partial(to.folder.uploads().begin, name, owner=owner(), ttl_s=to.settings.file_ttl_s)
    arriving: Upload = to.blocking(begin)
    try:
        for chunk in _body():
            if arriving.size + len(chunk) > to.settings.max_file_bytes:
                return _too_large()
            to.blocking(arriving.write, chunk)
        _need_all_of_it(arriving)
        url = to.blocking(arriving.finish)
    except OSError as error:
        if error.errno not in FULL:
            raise
        return _full(error)
    finally:
        to.blocking(arriving.abandon)
    return json_response(reference(url, name, arriving.size), 201, {"Location": url})


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


def _body() -> Iterator[bytes]:
    """What comes, as it comes. The limit of JSON bodies is not for files: they have their own, one byte
    under the one where Werkzeug would cut a body off (body.py)."""
    flask.request.max_content_length = services().settings.max_file_bytes + 1
    stream = flask.request.stream
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def _need_all_of_it(arriving: Upload) -> None:
    """A client that goes away looks like one that has sent all; only its Content-Length tells. In chunked
    coding the server sees the missing end itself."""
    promised = flask.request.content_length
    if promised is not None and arriving.size != promised:
        raise BadRequest(f"{arriving.size} of {promised} bytes came; nothing was kept")


def _no_folder() -> flask.Response:
    return problem(
        501,
        slug="no-shared-folder",
        title="No place for files",
        detail="this web tier was started without --shared DIR (RANKCAST_SHARED), the folder of its workers",
    )


def _no_form() -> flask.Response:
    return problem(
        415,
        slug="unsupported-media-type",
        title="Unsupported media type",
        detail="send the file itself as the body: curl -T FILE -X POST '…/files?file_name=FILE'",
    )


def _too_large() -> flask.Response:
    limit = services().settings.max_file_bytes
    return problem(
        413,
        slug="content-too-large",
        title="Content too large",
        detail=f"a file may have {limit} bytes at most (RANKCAST_MAX_FILE_BYTES)",
    )


def _full(error: OSError) -> flask.Response:
    return problem(
        507,
        slug="storage-full",
        title="Storage full",
        detail=f"the shared folder takes no more: {errno.errorcode[error.errno or 0]}; nothing was kept",
    )
