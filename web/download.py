"""Files on their way out: in chunks and in ranges, and never as a page of this origin.

RFC 9110, sections 13 and 14. What users' code wrote, or somebody uploaded, must not run where it is
looked at: only what a browser shows without running it is shown, all else is saved, no type is guessed
at, and whatever still became a document has an origin of its own (CSP sandbox).
"""

from collections.abc import Callable
from typing import Any, BinaryIO

import flask

from rankcast.tasks.artifacts import Opened, content_type_of
from rankcast.web.services import services

#: Read at once: what a file costs in memory while its client does not read.
CHUNK_BYTES = 128 * 1024
#: Shown by a browser as they are; besides all of image/, audio/ and video/ but SVG, which has scripts.
SHOWN = frozenset({"text/plain", "text/csv", "application/json"})
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "Accept-Ranges": "bytes",
}


def download(opened: Opened, *, name: str, etag: str, cache_control: str) -> flask.Response:
    """The file, or what of it was asked for, or 304. RequestedRangeNotSatisfiable for a range outside."""
    request, content_type = flask.request, content_type_of(name)
    how = "inline" if _is_shown(content_type) else "attachment"
    # The alphabet of names has nothing to quote.
    headers = {
        **HEADERS,
        "Cache-Control": cache_control,
        "Content-Disposition": f'{how}; filename="{name}"',
        "Content-Length": str(opened.size),
    }
    if content_type.startswith("text/"):
        content_type += "; charset=utf-8"
    body = _Body(opened.file, services().blocking)
    response = flask.Response(
        body,
        headers=headers,
        content_type=content_type,
        direct_passthrough=True,
    )
    response.call_on_close(opened.file.close)
    response.set_etag(etag)
    try:
        response.make_conditional(_one_range(request.environ), True, opened.size)
    except BaseException:
        opened.file.close()
        raise
    return response


def _one_range(environ: dict[str, Any]) -> dict[str, Any]:
    """Several ranges at once are a form of their own, which a server need not know, as any unit but bytes
    (section 14.2)."""
    asked = environ.get("HTTP_RANGE", "bytes=")
    if "," in asked or not asked.startswith("bytes="):
        return {name: value for name, value in environ.items() if name != "HTTP_RANGE"}
    return environ


def _is_shown(content_type: str) -> bool:
    return content_type in SHOWN or (
        content_type.startswith(("image/", "audio/", "video/")) and content_type != "image/svg+xml"
    )


class _Body:
    """A file in chunks, each read beside the other greenlets: a network disk may take its time."""

    def __init__(self, file: BinaryIO, blocking: Callable[..., Any]) -> None:
        self._file = file
        self._blocking = blocking
        # What Werkzeug asks for to begin somewhere else.
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def __iter__(self) -> "_Body":
        return self

    def __next__(self) -> bytes:
        if chunk := self._blocking(self._file.read, CHUNK_BYTES):
            return bytes(chunk)
        raise StopIteration

    def close(self) -> None:
        self._file.close()
