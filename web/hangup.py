"""Who hung up, at once: also of a connection that nothing is written to.

One epoll for the process; what it waits for is a descriptor itself, which one greenlet waits for.
"""

import logging
import select
from collections.abc import Callable
from typing import Any

import gevent
from gevent.monkey import get_original
from gevent.socket import wait_read

from rankcast.web.turn import Turn

log = logging.getLogger(__name__)

#: The other side has closed, or shut down its half: a client that sent its request and hangs up.
GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Hangups:
    """Calls back, once, for each watched descriptor whose other side is gone."""

    def __init__(self) -> None:
        self._epoll: Any = None
        self._callbacks: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        if self._epoll is None:
            # Not before: the process that makes the app may not be the one that serves it.
            # gevent takes it out of `select`, for what waits in it would block everybody; here nobody does.
            self._epoll = get_original("select", "epoll")()
            gevent.spawn(self._listen)
        self._callbacks[fd] = callback
        self._epoll.register(fd, GONE)

    def forget(self, fd: int) -> None:
        """Before it is closed: its number may be another's at once."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _listen(self) -> None:
        while True:
            wait_read(self._epoll.fileno())
            turn = Turn()
            while (callback := self._gone()) is not None:
                _call(callback)
                turn.give()

    def _gone(self) -> Callable[[], None] | None:
        """What to call next; None if nobody is gone. One at a time: when it has been called, and others have
        run, the number of another that was found with it may be somebody else's."""
        for fd, _ in self._epoll.poll(0, 1):
            callback = self._callbacks[fd]
            self.forget(fd)
            return callback
        return None


def _call(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        # Without the greenlet that calls nobody's hang-up would be seen any more.
        log.exception("what was to be done at a hang-up failed")
