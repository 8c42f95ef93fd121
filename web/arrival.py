"""When a request came: what a job's `timings` begin with."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import flask

ARRIVED = "rankcast.arrived"


class Arrival:
    """WSGI middleware around all others. The server calls it once it has read the head of a request."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ[ARRIVED] = time.monotonic()
        return self._app(environ, start_response)


def arrived_at() -> float:
    """That of the request at hand, in seconds of `time.monotonic`."""
    found: float = flask.request.environ[ARRIVED]
    return found
