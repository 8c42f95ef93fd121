"""A TLS end before a plain TCP server; `from tls_proxy import TlsProxy`."""

import contextlib
import socket
import ssl
import threading

import trustme


class TlsProxy:
    """Serves TLS on `port` of 127.0.0.1 with a certificate of `ca`, and passes on to `server_port`."""

    def __init__(self, server_port: int, ca: trustme.CA, *names: str) -> None:
        self._server_port = server_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(*names).configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[plain], daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            plain,
            self._context.wrap_socket(plain, server_side=True) as client,
        ):
            with socket.create_connection(("127.0.0.1", self._server_port)) as server:
                threading.Thread(target=_pump, args=[server, client], daemon=True).start()
                _pump(client, server)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_RDWR)
