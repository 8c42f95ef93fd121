"""The two forms of a good answer: JSON, and a stream."""

import errno
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flask
import orjson
from werkzeug.wsgi import ClosingIterator

from rankcast.web import sse


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> flask.Response:
    """`body`: anything that orjson takes, dataclasses included. Ends in a newline, for terminals."""
    text = orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)
    return flask.Response(text, status, headers, content_type="application/json")


def stream_response(
    chunks: Iterable[bytes],
    *,
    headers: Mapping[str, str] | None = None,
    on_close: Callable[[], None] | None = None,
) -> flask.Response:
    """Server-Sent Events, one write a chunk.

    `on_close` is called when the client is gone, also one that left before the first chunk, whose
    generator is never entered.
    """
    # Werkzeug hands a body that is passed through to the server as it is, and calls nothing at its end.
    body = chunks if on_close is None else ClosingIterator(chunks, on_close)
    return flask.Response(
        body,
        headers={**sse.HEADERS, **(headers or {})},
        content_type=sse.CONTENT_TYPE,
        direct_passthrough=True,
    )


def broken_off() -> ConnectionResetError:
    """To be raised by a body that is not whole: its connection is cut, without the end that HTTP would have.

    Servers take this error for the client's doing, and say nothing.
    """
    return ConnectionResetError(errno.ECONNRESET, "broken off on purpose")


def urls(job_id: str) -> dict[str, str]:
    """Where everything about a job is: paths, which stay right behind any proxy."""
    own = f"/jobs/{job_id}"
    return {
        "self": own,
        "stream": f"{own}/stream",
        "result": f"{own}/result",
        "cancel": f"{own}/cancel",
        "logs": f"{own}/logs",
        "artifacts": f"{own}/artifacts",
    }
