"""A TCP proxy in front of Redis that loses what it is told to lose; `from lossy import LossyRedis`.

Pub/sub promises nothing: a message that the server sent may never arrive, or late, and the connection
may break, without anybody being told. Here that happens on purpose.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from rankcast.web.hub import CLIENT_NAME


class LossyRedis:
    """Listens on `url`. `lose(payload)` says which published messages do not reach the hub, and
    `silence(command)` after which commands their connection hears nothing any more."""

    def __init__(self, upstream_url: str) -> None:
        address = urlsplit(upstream_url)
        self._upstream = (str(address.hostname), address.port or 6379)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.lose: Callable[[bytes], bool] = lambda payload: False
        self.lost: list[bytes] = []
        self.silence: Callable[[bytes], bool] = lambda command: False
        #: Cleared, they hold what the hub sends, or what it would hear, until they are set again.
        self.commands, self.replies = threading.Event(), threading.Event()
        self.commands.set()
        self.replies.set()
        self._is_cut = False
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """All connections break, and nobody gets a new one until `mend`."""
        self._is_cut = True
        for each in tuple(self._open):
            self._close(each)

    def mend(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        # shutdown wakes the accept, which a close alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.commands.set()
        self.replies.set()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._open.add(near)
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        far: socket.socket | None = None
        try:
            if not self._is_cut:
                far = socket.create_connection(self._upstream)
                self._open.add(far)
                is_hub, is_silent = threading.Event(), threading.Event()
                back = threading.Thread(
                    target=self._carry_back, args=(far, near, is_hub, is_silent), daemon=True
                )
                back.start()
                while data := near.recv(65536):
                    if CLIENT_NAME.encode() in data:
                        is_hub.set()
                    if self.silence(data):
                        is_silent.set()
                    if is_hub.is_set():
                        self.commands.wait()
                    far.sendall(data)
        except OSError:
            pass
        finally:
            self._close(near)
            if far is not None:
                self._close(far)

    def _carry_back(
        self, far: socket.socket, near: socket.socket, is_hub: threading.Event, is_silent: threading.Event
    ) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                if is_silent.is_set():
                    continue
                if not is_hub.is_set():
                    near.sendall(data)
                    continue
                self.replies.wait()
                replies, rest = _split(rest + data)
                near.sendall(b"".join(reply for reply in replies if not self._is_lost(reply)))
        self._close(near)

    def _is_lost(self, reply: bytes) -> bool:
        if not reply.startswith(b"*3\r\n$7\r\nmessage\r\n"):
            return False
        # `*3 $7 message $n channel $m payload`, each with a line end: five before the payload.
        payload = reply.split(b"\r\n", 6)[6].removesuffix(b"\r\n")
        if self.lose(payload):
            self.lost.append(payload)
            return True
        return False

    def _close(self, each: socket.socket) -> None:
        self._open.discard(each)
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


@contextlib.contextmanager
def lossy_redis(upstream_url: str) -> Iterator[LossyRedis]:
    proxy = LossyRedis(upstream_url)
    try:
        yield proxy
    finally:
        proxy.close()


def _split(raw: bytes) -> tuple[list[bytes], bytes]:
    """The complete RESP2 replies in `raw`, and the rest."""
    replies, start = [], 0
    while (end := _end_of(raw, start)) is not None:
        replies.append(raw[start:end])
        start = end
    return replies, raw[start:]


def _end_of(raw: bytes, start: int) -> int | None:
    line_end = raw.find(b"\r\n", start)
    if line_end < 0:
        return None
    kind, end = raw[start : start + 1], line_end + 2
    if kind == b"$":
        end += max(int(raw[start + 1 : line_end]) + 2, 0)
    if kind == b"*":
        for _ in range(int(raw[start + 1 : line_end])):
            inner = _end_of(raw, end)
            if inner is None:
                return None
            end = inner
    return end if end <= len(raw) else None
