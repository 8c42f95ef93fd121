"""The two forms of a good answer: JSON, and a stream."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flask
import orjson

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
    response = flask.Response(
        chunks,
        headers={**sse.HEADERS, **(headers or {})},
        content_type=sse.CONTENT_TYPE,
        direct_passthrough=True,
    )
    if on_close is not None:
        response.call_on_close(on_close)
    return response


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
