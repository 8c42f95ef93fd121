"""A TCP proxy that cuts its connections; `from cutting_proxy import CuttingProxy`."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

#: Closing sends a reset instead of an orderly end.
RESET = struct.pack("ii", 1, 0)


class CuttingProxy:
    """Passes connections on to `port`, and cuts each after so many bytes of the answer as `cuts` says.

    When `cuts` is used up, connections live as long as both ends want. Every second cut is a reset,
    the others look like an orderly end. `retry:` is made short, so that a test need not wait.
    """

    def __init__(self, port: int, cuts: Iterator[int]) -> None:
        self.port = port
        self.count = 0
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
                threading.Thread(target=_pump, args=[client, server], daemon=True).start()
                self._answer(server, client)
                for end in (server, client):
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        left = next(self._cuts, None)
        while chunk := server.recv(65536):
            chunk = chunk.replace(b"retry: 1000\n", b"retry: 0001\n")
            client.sendall(chunk[:left])
            if left is None:
                continue
            left -= len(chunk)
            if left <= 0:
                self.count += 1
                if self.count % 2:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
