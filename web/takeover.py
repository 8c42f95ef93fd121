"""Streams without a greenlet each: the sockets of all viewers of a job, written to in one go.

Flask has let a viewer in, or another who asked in the same words (admissions.py). From here on it is due the
same bytes as every other viewer that stands at the same place. So its socket goes to the crowd of its job
(crowd.py), and gunicorn's part in it ends.

Where this cannot be done (TLS in gunicorn, HTTP/2, HTTP/1.0, another server) a stream stays the
generator that it was.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import gevent
from gevent.event import Event
from gevent.socket import socket as GeventSocket

from rankcast.tasks.errors import RankcastError
from rankcast.web import sse
from rankcast.web.admissions import Admission, Asked, admission
from rankcast.web.crowd import Crowd
from rankcast.web.keepalives import Keepalives
from rankcast.web.services import Services
from rankcast.web.sink import Sink, chunk
from rankcast.web.stream import RETRY_MS, STREAM, Stream, reader_for

#: How long one waits at most for the answer to another who asks the same.
PATIENCE_S = 5.0
#: What every stream begins with.
FIRST = chunk(sse.retry(RETRY_MS))
#: Writes the access log's line of a stream that ends: how many bytes it had, and how long it took.
Tell = Callable[[int, timedelta], None]


class TakeOver:
    """WSGI middleware, which gunicorn's worker puts around the app; what it cannot take over it lets pass."""

    def __init__(self, app: Any, services: Services) -> None:
        self._app = app
        self._services = services
        self._crowds: dict[str, Crowd] = {}
        self._keepalives = Keepalives(services.settings.keepalive_s)
        #: The first requests of connections, while they are being answered; and of those in the same words
        #: the one that others wait for.
        self._first: dict[GeventSocket, Asked] = {}
        self._asking: dict[bytes, tuple[GeventSocket, Event]] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body: Iterable[bytes] = self._app(environ, start_response)
        stream = environ.pop(STREAM, None)
        if stream is None or not _can_be_taken(environ):
            return body
        response, sock = start_response.__self__, environ["gunicorn.socket"]  # type: ignore[attr-defined]
        try:
            head = _head_of(response)
            sink = self._sink(os.dup(sock.fileno()), stream, head, self._access_line(environ, response))
        except BaseException:
            stream.leave()
            raise
        crowd = self._crowd_of(stream)
        asked, known = self._first.get(sock), admission(head, stream.key)
        if asked is not None and known is not None and asked.job_id == stream.viewer.feed.job_id:
            crowd.admissions.note(asked.words, known)
            self.end_first(sock)
        crowd.welcome(sink, head + FIRST, stream)
        # It ends gunicorn's part in this connection, and closes a descriptor that is not the last one.
        raise StopIteration

    @contextlib.contextmanager
    def as_first(self, sock: GeventSocket, asked: Asked) -> Iterator[None]:
        """The request that comes first over `sock` is this one."""
        self._first[sock] = asked
        self._asking.setdefault(asked.words, (sock, Event()))
        try:
            yield
        finally:
            self.end_first(sock)

    def end_first(self, sock: GeventSocket) -> None:
        """It is answered, and what comes next over `sock` is another. May be called more than once."""
        asked = self._first.pop(sock, None)
        if asked is None or (asking := self._asking.get(asked.words)) is None or asking[0] is not sock:
            return
        del self._asking[asked.words]
        asking[1].set()

    def let_in(self, asked: Asked, sock: GeventSocket, tell: Tell | None) -> bool:
        """Serve a viewer who asks as another of the job's crowd did; False where Flask is to be asked.

        Waits for the answer to one who asks the same at the moment. The request is still to be read from
        `sock`, which is nobody else's afterwards.
        """
        if (asking := self._asking.get(asked.words)) is not None:
            asking[1].wait(PATIENCE_S)
            # All are woken in one go: from here on each has a turn of its own.
            gevent.sleep(0)
        crowd = self._crowds.get(asked.job_id)
        known = None if crowd is None else crowd.admissions.find(asked.words)
        if crowd is None or known is None:
            return False
        try:
            stream = self._stream_again(crowd, asked, known)
        except RankcastError:
            # It knows how to say what is wrong.
            return False
        if stream is None:
            return False
        try:
            # What is unread when a connection is closed makes its end a reset.
            sock.recv(asked.size)
        except OSError:
            # It is gone already.
            stream.release()
            return True
        head = known.head
        crowd.welcome(self._sink(sock.detach(), stream, head, tell), head + FIRST, stream)
        return True

    def _stream_again(self, crowd: Crowd, asked: Asked, known: Admission) -> Stream | None:
        """None where the viewer would not be let in, or not to this crowd. RankcastError."""
        to, key = self._services, known.key
        if to.keyring is not None:
            if key is None or to.keyring.by_id(key.id) != key:
                return None
            to.last_used.note(key.id)
        start = to.hub.locate(asked.job_id, asked.cursor)
        # Others may have left while Redis was asked.
        if start.is_complete or self._crowds.get(asked.job_id) is not crowd:
            return None
        reader = reader_for(to, crowd.viewer, start)
        return Stream(reader, crowd.viewer, to.places.take("" if key is None else key.id), key)

    def _crowd_of(self, stream: Stream) -> Crowd:
        job_id = stream.viewer.feed.job_id
        if (crowd := self._crowds.get(job_id)) is None:
            crowd = self._crowds[job_id] = Crowd(self._crowds, self._keepalives, stream)
        return crowd

    def _sink(self, fd: int, stream: Stream, head: bytes, tell: Tell | None) -> Sink:
        """It owns the descriptor."""
        told = None if tell is None else _telling(tell, len(head))
        reader, hangups = stream.reader, self._services.hangups
        try:
            sink = Sink(fd, reader.place, told=told, leave=stream.release, hangups=hangups)
        except BaseException:
            os.close(fd)
            stream.release()
            raise
        sink.leave_in(reader.leaves_in_s)
        return sink

    def _access_line(self, environ: dict[str, Any], response: Any) -> Tell | None:
        """None where there is no such log."""
        access_log = self._services.access_log
        if not access_log.access_log_enabled:
            return None

        def tell(sent: int, took: timedelta) -> None:
            response.sent += sent
            access_log.access(response, response.req, environ, took)

        return tell


def _telling(tell: Tell, head_bytes: int) -> Callable[[int], None]:
    """What tells of a stream that begins now."""
    began = time.monotonic()
    return lambda sent: tell(max(0, sent - head_bytes), timedelta(seconds=time.monotonic() - began))


class _Gathered:
    """As a socket, for what is not to be written yet."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.parts.append(data)


def _head_of(response: Any) -> bytes:
    """The head of gunicorn's answer, which counts as sent."""
    sock, response.sock = response.sock, (gathered := _Gathered())
    try:
        response.send_headers()
    finally:
        response.sock = sock
    return b"".join(gathered.parts)


def _can_be_taken(environ: dict[str, Any]) -> bool:
    # TLS has a socket of another class; HTTP/2 has streams for sockets.
    return type(environ.get("gunicorn.socket")) is GeventSocket and environ["SERVER_PROTOCOL"] == "HTTP/1.1"
