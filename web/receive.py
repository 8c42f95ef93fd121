"""A file on its way in: on disk as it arrives, whole or not at all, and never in memory."""

import errno
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import flask

from rankcast.tasks.disk import FULL
from rankcast.tasks.uploads import Upload, Uploads
from rankcast.web.auth import owner
from rankcast.web.download import CHUNK_BYTES
from rankcast.web.problems import BadRequest, ContentTooLarge, FileIsThere, NoSharedFolder, StorageFull
from rankcast.web.services import services


class Received(NamedTuple):
    """A file that is there now, and its size in bytes."""

    url: str
    name: str
    size: int


class Limit(NamedTuple):
    """The largest file, and what is said of a larger one."""

    max_bytes: int
    message: str


def uploads() -> Uploads:
    """Where they are kept. NoSharedFolder."""
    if (folder := services().folder) is None:
        raise NoSharedFolder(
            "this web tier was started without --shared DIR (RANKCAST_SHARED), the folder of its workers"
        )
    return folder.uploads()


def receive(name: str, *, limit: Limit, ttl_s: float, file_id: str | None = None) -> Received:
    """Keep the body of this request as a file of the caller's, under that id or a new one.

    NoSharedFolder, ContentTooLarge, StorageFull, FileIsThere, BadRequest for one that breaks off: nothing
    is left of it then.
    """
    begin = partial(uploads().begin, name, owner=owner(), ttl_s=ttl_s, file_id=file_id)
    if (flask.request.content_length or 0) > limit.max_bytes:
        raise ContentTooLarge(limit.message)
    blocking = services().blocking
    try:
        arriving: Upload = blocking(begin)
        try:
            _take(arriving, limit)
            return Received(blocking(arriving.finish), name, arriving.size)
        finally:
            blocking(arriving.abandon)
    except FileExistsError:
        raise FileIsThere("there is another file of that id: a file never changes") from None
    except OSError as error:
        if error.errno not in FULL:
            raise
        told = errno.errorcode[error.errno or 0]
        raise StorageFull(f"the shared folder takes no more: {told}; nothing was kept") from error


def _take(arriving: Upload, limit: Limit) -> None:
    """All of the body, to its promised end."""
    for chunk in _body(limit):
        if arriving.size + len(chunk) > limit.max_bytes:
            raise ContentTooLarge(limit.message)
        services().blocking(arriving.write, chunk)
    # A client that goes away looks like one that has sent all; only its Content-Length tells. In chunked
    # coding the server sees the missing end itself.
    promised = flask.request.content_length
    if promised is not None and arriving.size != promised:
        raise BadRequest(f"{arriving.size} of {promised} bytes came; nothing was kept")


def _body(limit: Limit) -> Iterator[bytes]:
    """What comes, as it comes. The limit of JSON bodies is not for files: they have their own, one byte
    under the one where Werkzeug would cut a body off (body.py)."""
    flask.request.max_content_length = limit.max_bytes + 1
    stream = flask.request.stream
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk
