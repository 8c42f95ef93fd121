"""Streams without a greenlet each: the sockets of all viewers of a job, written to by one.

Flask has let a viewer in (or another who asked in the same words, admissions.py), and it has been sent
all that there was. From here on it is due the same bytes as every other viewer that stands at the same
place. So its socket goes to the crowd of its job, and its greenlet ends. A crowd is one viewer more: it
has a cursor and a Reader, which decides what comes next, as for anybody; what comes it writes to all its
sockets.

A socket that does not take all of a write leaves the crowd: it has a greenlet again, and a Reader at
its own cursor, and comes back when it has caught up. So a crowd waits for nobody, and nothing in this
file knows what is in a log.

Where this cannot be done (TLS in gunicorn, HTTP/2, HTTP/1.0, another server) a stream stays the
generator that it was.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import gevent
from gevent.socket import socket as GeventSocket
from gevent.socket import wait_write

from rankcast.tasks.errors import RankcastError
from rankcast.web import sse
from rankcast.web.admissions import Admission, Admissions
from rankcast.web.hangup import Hangups
from rankcast.web.hub import Viewer
from rankcast.web.services import Services
from rankcast.web.stream import (
    RETRY_MS,
    STREAM,
    Place,
    Reader,
    Stream,
    farewell,
    open_stream,
    parts,
    writes,
)

#: Writes of a crowd before somebody else gets a turn: some two milliseconds.
TURN = 256
#: How a body in chunked coding ends (RFC 9112, section 7.1).
LAST_CHUNK = b"0\r\n\r\n"

log = logging.getLogger(__name__)


def chunk(data: bytes) -> bytes:
    """The same in chunked coding (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class TakeOver:
    """WSGI middleware; under another server than gunicorn with gevent it lets everything pass."""

    def __init__(self, app: Any, services: Services) -> None:
        self._app = app
        self._services = services
        self._crowds: dict[str, Crowd] = {}

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

    def _take(self, environ: dict[str, Any], start_response: Any, stream: Stream) -> "Crowd":
        told = self._access_line(environ, start_response)
        fd = os.dup(environ["gunicorn.socket"].fileno())
        sink = Sink(fd, stream.reader.place, told=told, leave=stream.release, hangups=self._services.hangups)
        sink.leave_in(stream.reader.leaves_in_s)
        job_id = stream.viewer.feed.job_id
        found = self._crowds.get(job_id)
        sink.crowd = crowd = found or Crowd(self._crowds, stream)
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


def _is_ahead(place: Place, other: Place) -> bool:
    """Whether who stands at `other` comes by `place`, in the log as both know it."""
    return place[1] == other[1] and place[0] > other[0]


class Sink:
    """One viewer's socket. Either it is parked in a crowd, or a greenlet of its own writes to it."""

    __slots__ = (
        *("_fd", "_hangups", "_leave", "_timer", "_told"),
        *("crowd", "greenlet", "is_due", "place", "sent"),
    )

    def __init__(
        self,
        fd: int,
        place: Place,
        *,
        told: Callable[[int], None] | None,
        leave: Callable[[], None],
        hangups: Hangups,
    ) -> None:
        self._fd = fd
        self._told = told
        self._leave = leave
        self._timer: Any = None
        self._hangups = hangups
        self.crowd: Crowd | None = None
        self.greenlet: Any = None
        #: Its time here is over.
        self.is_due = False
        #: Where its viewer stands, what is being written included; None once it is closed.
        self.place: Place | None = place
        #: Bytes, for the access log.
        self.sent = 0
        hangups.watch(fd, self.close)

    def leave_in(self, seconds: float) -> None:
        """Send the viewer away then."""
        if seconds != float("inf"):
            self._timer = gevent.get_hub().loop.timer(max(0.0, seconds))
            self._timer.start(self._is_due)

    def _is_due(self) -> None:
        self.is_due = True
        if self.greenlet is None:
            self.end(farewell())

    def take(self, data: bytes | memoryview) -> int:
        """Write what the kernel takes now; how much that was. OSError for a client that is gone."""
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            return 0
        self.sent += written
        return written

    def write(self, data: bytes | memoryview) -> None:
        """Write all of it, however long that takes. OSError."""
        rest = memoryview(data)
        while rest:
            if written := self.take(rest):
                rest = rest[written:]
            else:
                wait_write(self._fd)

    def end(self, last: bytes = b"") -> None:
        """The stream ends here, in order."""
        if self.place is None:
            return
        with contextlib.suppress(OSError):
            self.take((chunk(last) if last else b"") + LAST_CHUNK)
        self.close()

    def close(self) -> None:
        """May be called more than once."""
        if self.place is None:
            return
        self.place = None
        self._hangups.forget(self._fd)
        if self._timer is not None:
            self._timer.close()
        os.close(self._fd)
        if self.greenlet is not None and self.greenlet is not gevent.getcurrent():
            self.greenlet.kill(block=False)
        if self.crowd is not None:
            self.crowd.lose(self)
        self._leave()
        if self._told is not None:
            self._told(self.sent)


class Crowd:
    """All viewers of a job that stand at the same place, and those on their way there."""

    def __init__(self, crowds: dict[str, "Crowd"], stream: Stream) -> None:
        self._crowds = crowds
        self._viewer: Viewer = stream.viewer
        #: All of them; the parked stand at `_place`, and in order of their coming.
        self._members: set[Sink] = set()
        self._parked: dict[Sink, None] = {}
        self._arriving: list[Sink] = []
        #: How they were let in.
        self.admissions = Admissions()
        self._begin(stream.reader, stream.reader.place)

    def _begin(self, like: Reader, place: Place) -> None:
        self._reader: Reader = like.again(place, before_wait=self._admit)
        self._place = place
        self._is_running = True
        self._greenlet = gevent.spawn(self._run)

    def join(self, sink: Sink) -> None:
        """Take a socket whose viewer has been sent all that there was."""
        self._members.add(sink)
        self._arriving.append(sink)
        if self._is_running:
            self._viewer.wake.set()
        else:
            self._go_on()

    def lose(self, sink: Sink) -> None:
        """It is closed."""
        self._members.discard(sink)
        self._parked.pop(sink, None)
        if not self._members:
            self._close()
            self._viewer.leave()
            self._greenlet.kill(block=False)

    def _close(self) -> None:
        """Nobody joins it any more."""
        if self._crowds.get(self._viewer.feed.job_id) is self:
            del self._crowds[self._viewer.feed.job_id]

    def _run(self) -> None:
        try:
            self._admit()
            for part in parts(self._reader):
                self._cast(chunk(part), self._reader.place)
                # A job that never pauses never lets the reader wait.
                self._admit()
            self._close()
            self._admit()
            self._end_parked()
        except Exception:
            # Without this greenlet nobody here would be sent anything any more. They have their cursors.
            log.exception("writing to the viewers of job %s failed", self._viewer.feed.job_id)
            for sink in list(self._members):
                sink.close()
        self._is_running = False
        self._go_on()

    def _go_on(self) -> None:
        """The others have been sent the end. Who could not read as far, because Redis was away, is a crowd
        of its own."""
        places = [sink.place for sink in self._arriving if sink.place is not None]
        if places:
            self._begin(self._reader, places[0])

    def _end_parked(self) -> None:
        for count, sink in enumerate(list(self._parked), 1):
            sink.end(farewell() if self._reader.is_leaving else b"")
            if count % TURN == 0:
                gevent.sleep(0)  # not a wait: lets others run

    def _cast(self, data: bytes, place: Place) -> None:
        """Write to all that are parked; they stand at `place` then."""
        before, self._place, size = self._place, place, len(data)
        for count, sink in enumerate(list(self._parked), 1):
            # Others, who left while somebody else had a turn, stand elsewhere or nowhere.
            if sink.place is before:
                try:
                    written = sink.take(data)
                except OSError:
                    sink.close()
                else:
                    sink.place = place
                    if written < size:
                        self._move(sink, memoryview(data)[written:], is_last=self._reader.is_over)
            if count % TURN == 0:
                gevent.sleep(0)  # not a wait: lets others run

    def _admit(self) -> None:
        """Park who stands where the crowd stands; who is behind catches up, who is ahead waits for it."""
        if (place := self._reader.place) != self._place and place[0] == self._place[0]:
            self._stand_at(place)
        arriving, self._arriving = self._arriving, []
        for sink in arriving:
            if sink.place is None:
                continue
            if sink.place == self._place:
                sink.place = self._place
                sink.greenlet = None
                self._parked[sink] = None
                if sink.is_due:
                    sink.end(farewell())
            elif _is_ahead(sink.place, self._place):
                self._arriving.append(sink)
            else:
                self._move(sink)

    def _stand_at(self, place: Place) -> None:
        """The same place, by another count: the log was found shorter, but not by what is here."""
        before, self._place = self._place, place
        for sink in self._parked:
            if sink.place is before:
                sink.place = place

    def _move(self, sink: Sink, rest: bytes | memoryview = b"", *, is_last: bool = False) -> None:
        self._parked.pop(sink, None)
        sink.greenlet = gevent.spawn(self._catch_up, sink, rest, is_last)

    def _catch_up(self, sink: Sink, rest: bytes | memoryview, is_last: bool) -> None:
        """Write the rest of what the crowd was sent, and what came after, at the client's own pace."""
        assert sink.place is not None
        reader = self._reader.again(sink.place)
        try:
            sink.write(rest)
            for part in () if is_last else parts(reader.pending()):
                sink.write(chunk(part))
                sink.place = reader.place
                if sink.is_due:
                    break
        except Exception as error:
            if not isinstance(error, OSError):
                log.exception("a viewer of job %s could not catch up", self._viewer.feed.job_id)
            sink.close()
            return
        if is_last or reader.is_over or sink.is_due:
            sink.end(farewell() if reader.is_leaving or sink.is_due else b"")
        else:
            self.join(sink)
