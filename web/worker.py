"""gunicorn's gevent worker, which brings the take-over of streams, and lets in who asks for one in words that
are known, unread.

A look at what a new connection sends first is enough for that. Whatever else it sends is gunicorn's to read.
gunicorn imports this before it forks, and gevent patches afterwards: nothing here may import redis.
"""

import contextlib
import socket
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gunicorn.http import get_parser, wsgi
from gunicorn.workers.ggevent import GeventWorker

from rankcast.web.admissions import asked

if TYPE_CHECKING:
    from rankcast.web.takeover import Tell

#: Of a head that is longer nothing is known.
HEAD_BYTES = 4096


class StreamWorker(GeventWorker):  # type: ignore[misc]
    """`worker_class` of gunicorn_conf.py."""

    #: None where streams are not taken over.
    _door: Any = None

    def load_wsgi(self) -> None:
        super().load_wsgi()
        services = self.wsgi.extensions["rankcast"]
        # The sockets of TLS are of another class.
        if services.settings.takes_over and not self.cfg.is_ssl:
            # By its name, and only now: it imports redis.
            take_over = import_module("rankcast.web.takeover").TakeOver
            self._door = services.door = take_over(self.wsgi.wsgi_app, services)
            self.wsgi.wsgi_app = self._door

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        if self._door is None:
            super().handle(listener, client, addr)
        elif (head := self._look(client)) is None:
            client.close()
        elif (found := asked(head)) is None:
            super().handle(listener, client, addr)
        elif not (self.alive and self._door.let_in(found, client, self._tell(listener, addr, head))):
            with self._door.as_first(client, found):
                super().handle(listener, client, addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        super().handle_request(listener_name, req, sock, addr)
        if self._door is not None:
            self._door.end_first(sock)

    def _look(self, client: Any) -> bytes | None:
        """What has come first, and is still to be read; None if nothing comes."""
        try:
            with self.timeout_ctx() if self.cfg.keepalive else contextlib.nullcontext():
                found: bytes = client.recv(HEAD_BYTES, socket.MSG_PEEK)
                return found
        except OSError:
            # It will be found again by who is to tell of it.
            return b""
        return None

    def _tell(self, listener: Any, addr: Any, head: bytes) -> "Tell | None":
        """None where there is no access log."""
        if not self.log.access_log_enabled:
            return None

        # The listener may be closed by then.
        listener_name = listener.getsockname()

        def tell(sent: int, took: timedelta) -> None:
            request = next(get_parser(self.cfg, [head], addr))
            response, environ = wsgi.create(request, None, addr, listener_name, self.cfg)
            response.status, response.sent = "200 OK", sent
            self.log.access(response, request, environ, took)

        return tell
