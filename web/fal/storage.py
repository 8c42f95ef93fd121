"""fal's storage: files that its clients upload, to be named in inputs.

    POST /rest/storage/auth/token          Python: a token, and with it
    POST /cdn/files/upload                 the file; the answer has its URL
    POST /rest/storage/upload/initiate     JavaScript, and Python when that failed: both URLs, and to one
    PUT  /cdn/files/<id>/<name>?token=…    the file

JavaScript's PUT sends no key, so its URL has a token, which dies with the key that asked for it. Larger
files come in parts, which are refused: both clients begin so above a size of their own.
"""

import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import flask
import orjson

from rankcast.tasks.artifacts import BYTES, content_type_of, reference, suffix_of
from rankcast.tasks.uploads import ID, file_url, new_id, tidy
from rankcast.web import auth, tokens
from rankcast.web.auth import needs
from rankcast.web.body import json_body
from rankcast.web.fal.values import came_by_name, link, public_base
from rankcast.web.keyring import Scope
from rankcast.web.problems import BadRequest, ContentTooLarge
from rankcast.web.receive import Limit, Received, receive, uploads
from rankcast.web.responses import json_response
from rankcast.web.services import services

#: Above it Python's client sends parts.
MAX_BYTES = 100 * 1024 * 1024
MEDIA_HOST = "v3.fal.media"

routes = flask.Blueprint("storage", __name__)


@routes.post("/rest/storage/auth/token")
@needs("submit")
def token() -> flask.Response:
    """Given out also where no file can be kept: Python's client tells what an upload is refused with, and
    of a token only that it is."""
    until = datetime.fromtimestamp(time.time() + services().settings.stream_token_s, UTC)
    body = {
        "token": auth.signer(Scope.SUBMIT)(tokens.UPLOADS, "") or "none-needed",
        "token_type": "Bearer",
        "base_url": _media(),
        "expires_at": until.isoformat(),
    }
    return json_response(body)


@routes.post("/cdn/files/upload")
@needs("submit", by_token=tokens.UPLOADS)
def upload() -> flask.Response:
    request = flask.request
    name = named(request.headers.get("X-Fal-File-Name", ""), request.mimetype)
    return json_response({"access_url": link(_received(name, _wanted_ttl_s()).url)})


@routes.post("/rest/storage/upload/initiate")
@needs("submit")
def initiate() -> flask.Response:
    """Nothing is kept of it: all that the PUT needs is in its URL."""
    uploads()
    body = json_body()
    asked = body if isinstance(body, dict) else {}
    name = named(str(asked.get("file_name") or ""), str(asked.get("content_type") or ""))
    file_id = new_id()
    query: dict[str, Any] = {"ttl_s": _wanted_ttl_s()}
    if signed := auth.signer(Scope.SUBMIT)(tokens.UPLOAD, file_id):
        query["token"] = signed
    urls = {
        "upload_url": f"{_media()}/files/{file_id}/{name}?{urlencode(query)}",
        "file_url": link(file_url(file_id, name)),
    }
    return json_response(urls)


@routes.put("/cdn/files/<file_id>/<name>")
@needs("submit", by_token=tokens.UPLOAD)
def put(file_id: str, name: str) -> flask.Response:
    if not ID.fullmatch(file_id) or name != tidy(name):
        raise BadRequest("send a file to the upload_url that POST /storage/upload/initiate answers with")
    received = _received(name, _kept_s(flask.request.args.get("ttl_s", type=float)), file_id)
    return json_response(reference(link(received.url), name, received.size))


@routes.post("/rest/storage/upload/initiate-multipart")
@routes.post("/cdn/files/upload/multipart")
@needs("submit", by_token=tokens.UPLOADS)
def refuse_parts() -> flask.Response:
    """Both clients begin so with what is too large for them to send at once."""
    raise ContentTooLarge(
        "this file is too large to be sent at once, and parts of files are not taken here (JavaScript's "
        f"client sends them above 90 MiB, Python's above 100); {_way_out()}"
    )


def named(given: str, content_type: str) -> str:
    """A file's name, in the alphabet of names: what the client called it, with an end that tells its type:
    that is all that is kept of it."""
    name = tidy(given) or "file"
    suffix = suffix_of(content_type.partition(";")[0].strip().lower())
    return name if content_type_of(name) != BYTES or suffix == suffix_of(BYTES) else tidy(name + suffix)


def _wanted_ttl_s() -> float:
    """For how long to keep the file, of `{"expiration_duration_seconds"?, …}` in a header. BadRequest."""
    # The names differ by client and call, and who sends both means the same by them.
    for header in ("X-Fal-Object-Lifecycle", "X-Fal-Object-Lifecycle-Preference"):
        if (text := flask.request.headers.get(header)) is not None:
            try:
                lifecycle = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise BadRequest(f"{header} is not JSON: {error}") from None
            return _kept_s(lifecycle.get("expiration_duration_seconds") if isinstance(lifecycle, dict) else 0)
    return _kept_s(None)


def _kept_s(wanted_s: Any) -> float:
    """As long as the client wants it, None: it does not care, and no longer than all other files: they would
    fill the disk. BadRequest."""
    longest_s = services().settings.file_ttl_s
    if wanted_s is None:
        return longest_s
    if not isinstance(wanted_s, (int, float)) or not wanted_s > 0:
        raise BadRequest("a file is kept for a number of seconds above 0 (expiration_duration_seconds)")
    return min(wanted_s, longest_s)


def _received(name: str, ttl_s: float, file_id: str | None = None) -> Received:
    """The body of this request, as a file. The errors of `receive`."""
    settings = services().settings
    most = min(MAX_BYTES, settings.max_file_bytes)
    limit = Limit(most, f"a file may have {most} bytes at most here; {_way_out()}")
    return receive(name, limit=limit, ttl_s=ttl_s, file_id=file_id)


def _way_out() -> str:
    most = services().settings.max_file_bytes
    return f"Rankcast's own Client.upload and POST /files take {most}, and inputs name the URL that they give"


def _media() -> str:
    """Where this client reaches what fal has on its media host."""
    return f"{flask.request.scheme}://{MEDIA_HOST}" if came_by_name() else f"{public_base()}/cdn"
