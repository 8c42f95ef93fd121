"""Streams without a greenlet each: the sockets of all viewers of a job, written to by one.

Flask has let a viewer in (or another who asked in the same words, admissions.py), and it has been sent
all that there was. From here on it is due the same bytes as every other viewer that stands at the same
place. So its socket goes to the crowd of its job (crowd.py), and its greenlet ends.

Where this cannot be done (TLS in gunicorn, HTTP/2, HTTP/1.0, another server) a stream stays the
generator that it was.
"""

import os
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from gevent.socket import socket as GeventSocket

from rankcast.tasks.errors import RankcastError
from rankcast.web import sse
from rankcast.web.admissions import Admission
from rankcast.web.crowd import Crowd, Sink
from rankcast.web.keepalives import Keepalives
from rankcast.web.services import Services
from rankcast.web.stream import (
    RETRY_MS,
    STREAM,
    Stream,
    farewell,
    open_stream,
    parts,
    writes,
)


class TakeOver:
    """WSGI middleware; under another server than gunicorn with gevent it lets everything pass."""

    def __init__(self, app: Any, services: Services) -> None:
        self._app = app
        self._services = services
        self._crowds: dict[str, Crowd] = {}
        self._keepalives = Keepalives(services.settings.keepalive_s)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        stream = self._let_in_again(environ, start_response)
        if stream is not None:
            return self._serve(environ, start_response, stream, None)
        head: list[Any] = []

        def begin(*told: Any) -> Any:
            head[:] = told
            return start_response(*told)

        body: Iterable[bytes] = self._app(environ, begin)
        stream = environ.pop(STREAM, None)
        if stream is None or not _can_be_taken(environ):
            return body
        return self._serve(environ, start_response, stream, Admission(head[0], head[1], stream.key))

    def _let_in_again(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Stream | None:
        """The stream of a viewer who asks as another of this crowd did; None where Flask is to be asked."""
        job_id = environ["PATH_INFO"].removeprefix("/jobs/").removesuffix("/stream")
        crowd = self._crowds.get(job_id)
        admission = None if crowd is None else crowd.admissions.find(environ)
        if admission is None or not _can_be_taken(environ):
            return None
        to = self._services
        try:
            if to.keyring is not None:
                if admission.key is None or to.keyring.by_id(admission.key.id) != admission.key:
                    return None
                to.last_used.note(admission.key.id)
            start = to.hub.locate(job_id, environ.get("HTTP_LAST_EVENT_ID"))
            if start.is_complete:
                return None
            stream = open_stream(to, job_id, start, admission.key)
        except RankcastError:
            # It knows how to say what is wrong.
            return None
        start_response(admission.status, admission.headers)
        return stream

    def _serve(
        self, environ: dict[str, Any], start_response: Any, stream: Stream, admission: Admission | None
    ) -> Iterable[bytes]:
        """What there is now, by gunicorn's means; then its socket goes to the crowd."""
        try:
            pieces = (piece for part in parts(stream.reader.pending()) for piece in writes(part))
            _write_with_head(start_response, sse.retry(RETRY_MS) + next(pieces, b""))
            for piece in pieces:
                start_response.__self__.write(piece)
            if stream.reader.is_over:
                stream.leave()
                return [farewell()] if stream.reader.is_leaving else []
            crowd = self._take(environ, start_response, stream)
        except BaseException:
            stream.leave()
            raise
        if admission is not None:
            crowd.admissions.note(environ, admission)
        # It ends gunicorn's part in this connection, and closes a descriptor that is not the last one.
        raise StopIteration

    def _take(self, environ: dict[str, Any], start_response: Any, stream: Stream) -> Crowd:
        told = self._access_line(environ, start_response)
        fd = os.dup(environ["gunicorn.socket"].fileno())
        sink = Sink(fd, stream.reader.place, told=told, leave=stream.release, hangups=self._services.hangups)
        sink.leave_in(stream.reader.leaves_in_s)
        job_id = stream.viewer.feed.job_id
        found = self._crowds.get(job_id)
        sink.crowd = crowd = found or Crowd(self._crowds, self._keepalives, stream)
        self._crowds[job_id] = crowd
        crowd.join(sink)
        if found is not None:
            # Not before: it may let others run, and a crowd that the last one leaves is over.
            stream.viewer.leave()
        return crowd

    def _access_line(self, environ: dict[str, Any], start_response: Any) -> Callable[[int], None] | None:
        """What writes the access log's line at the end of the stream; None where there is no such log."""
        access_log = self._services.access_log
        if not access_log.access_log_enabled:
            return None
        response, began = start_response.__self__, time.monotonic()

        def tell(sent: int) -> None:
            response.sent += sent
            took = timedelta(seconds=time.monotonic() - began)
            access_log.access(response, response.req, environ, took)

        return tell


class _Gathered:
    """As a socket, for what is to be one write."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.parts.append(data)


def _write_with_head(start_response: Any, data: bytes) -> None:
    """As `write`, but the head of gunicorn's response goes in the same packet."""
    response, gathered = start_response.__self__, _Gathered()
    sock, response.sock = response.sock, gathered
    try:
        response.write(data)
    finally:
        response.sock = sock
    sock.sendall(b"".join(gathered.parts))


def _can_be_taken(environ: dict[str, Any]) -> bool:
    # TLS has a socket of another class; HTTP/2 has streams for sockets.
    return type(environ.get("gunicorn.socket")) is GeventSocket and environ["SERVER_PROTOCOL"] == "HTTP/1.1"
