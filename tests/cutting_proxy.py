"""A TCP proxy that cuts the streams it passes on; `from cutting_proxy import CuttingProxy`."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass

#: Closing sends a reset instead of an orderly end.
RESET = struct.pack("ii", 1, 0)


class CuttingProxy:
    """Passes connections on to `port`, and cuts each stream after so many bytes as `cuts` says.

    When `cuts` is used up, streams live as long as both ends want, as whatever else is asked for
    always does. Every second cut is a reset, the others look like an orderly end. `retry:` is made
    short, so that a test need not wait.
    """

    def __init__(self, port: int, cuts: Iterator[int]) -> None:
        self.port = port
        #: Cuts so far, and how each stream was asked for.
        self.count = 0
        self.streams: list[bytes] = []
        self._cuts = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        # A blocked accept() holds the socket open: shutting it down wakes it.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", self.port)) as server:
                left = Left()
                threading.Thread(target=self._ask, args=[client, server, left], daemon=True).start()
                self._answer(server, client, left)
                for end in (server, client):
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def _ask(self, client: socket.socket, server: socket.socket, left: "Left") -> None:
        with contextlib.suppress(OSError):
            while chunk := client.recv(65536):
                if b"/stream" in chunk.partition(b"\n")[0]:
                    self.streams.append(chunk)
                    left.bytes = next(self._cuts, None)
                server.sendall(chunk)

    def _answer(self, server: socket.socket, client: socket.socket, left: "Left") -> None:
        while chunk := server.recv(65536):
            chunk = chunk.replace(b"retry: 1000\n", b"retry: 0001\n")
            client.sendall(chunk[: left.bytes])
            if left.bytes is None:
                continue
            left.bytes -= len(chunk)
            if left.bytes <= 0:
                self.count += 1
                if self.count % 2:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return


@dataclass
class Left:
    """What a connection may still carry; None is without end."""

    bytes: int | None = None
