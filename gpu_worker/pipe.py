"""Step 5. The pipe between parent and rank: whole messages over a stream socket.

A frame is its length in four bytes, then the message. The parent's end never blocks: a rank that
is frozen in the middle of a frame must not freeze the thread that supervises it.
"""

import socket
import struct
import threading

from rankcast.gpu_worker.messages import Message, decode, encode

_LENGTH = struct.Struct("!I")
_READ_BYTES = 256 * 1024


def frame(message: Message) -> bytes:
    body = encode(message)
    return _LENGTH.pack(len(body)) + body


class NonBlockingEnd:
    """The parent's end. Only the thread that supervises the group touches it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._inbox = bytearray()
        self._outbox = bytearray()

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def has_unsent(self) -> bool:
        """Whether to call `flush` when the socket can be written to again."""
        return bool(self._outbox)

    def send(self, framed: bytes) -> None:
        """Send what `frame` made, or keep what the socket does not take now. Never raises: a rank
        that is gone is told of by its exit."""
        self._outbox += framed
        self.flush()

    def flush(self) -> None:
        try:
            while self._outbox:
                sent = self._sock.send(self._outbox)
                del self._outbox[:sent]
        except BlockingIOError:
            return
        except OSError:
            self._outbox.clear()

    def receive(self) -> tuple[list[Message], bool]:
        """The messages that are complete by now, and whether the rank has closed its end.

        ValueError, KeyError or TypeError for bytes that are no message.
        """
        is_closed = False
        try:
            while data := self._sock.recv(_READ_BYTES):
                self._inbox += data
            is_closed = True
        except BlockingIOError:
            pass
        except OSError:
            is_closed = True
        return self._take(), is_closed

    def _take(self) -> list[Message]:
        messages = []
        at = 0
        while len(self._inbox) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._inbox, at)
            end = at + _LENGTH.size + length
            if len(self._inbox) < end:
                break
            messages.append(decode(bytes(self._inbox[at + _LENGTH.size : end])))
            at = end
        del self._inbox[:at]
        return messages

    def close(self) -> None:
        self._sock.close()


class BlockingEnd:
    """The rank's end: one thread receives, any thread sends."""

    def __init__(self, sock: socket.socket, timeout_s: float | None = None) -> None:
        sock.settimeout(timeout_s)
        self._sock = sock
        self._reader = sock.makefile("rb", buffering=_READ_BYTES)
        self._sending = threading.Lock()

    def send(self, message: Message) -> None:
        """Send a message whole; OSError when the parent is gone."""
        framed = frame(message)
        with self._sending:
            self._sock.sendall(framed)

    def receive(self) -> Message | None:
        """Wait for the next message; None when the other side is gone or the time is over."""
        head = self._read(_LENGTH.size)
        body = self._read(*_LENGTH.unpack(head)) if head else None
        return decode(body) if body is not None else None

    def _read(self, size: int) -> bytes | None:
        try:
            data = self._reader.read(size)
        except OSError:
            return None
        return data if len(data) == size else None
