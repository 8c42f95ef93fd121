"""The socket of one viewer that was taken over: what a crowd, or a greenlet of its own, writes to."""

import contextlib
import errno
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
from gevent.socket import wait_write

from rankcast.web.hangup import Hangups
from rankcast.web.stream import Place, farewell

if TYPE_CHECKING:
    from rankcast.web.crowd import Crowd

#: How a body in chunked coding ends (RFC 9112, section 7.1).
LAST_CHUNK = b"0\r\n\r\n"

log = logging.getLogger(__name__)


def chunk(data: bytes) -> bytes:
    """The same in chunked coding (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


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
        #: Where its viewer stands, in a crowd what is being written included; None once it is closed.
        self.place: Place | None = place
        #: Bytes, for the access log.
        self.sent = 0
        hangups.watch(fd, self.close)

    def leave_in(self, seconds: float) -> None:
        """Send the viewer away then."""
        if seconds != float("inf"):
            self._timer = gevent.get_hub().loop.timer(max(0.0, seconds))
            # Not in the loop itself, which may not wait: for the hub's lock, for example.
            self._timer.start(gevent.spawn, self._send_away)

    def _send_away(self) -> None:
        self.is_due = True
        if self.greenlet is None:
            self.end(farewell())

    def take(self, data: bytes | memoryview) -> int:
        """Write what the kernel takes now; how much that was. OSError for a client that is gone."""
        if self.place is None:
            # The number may be another's already.
            raise OSError(errno.EBADF, "closed meanwhile")
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
            try:
                self._told(self.sent)
            except Exception:
                # It ends all the same, and so do those that are ended with it.
                log.exception("no line in the access log for a stream that ended")
