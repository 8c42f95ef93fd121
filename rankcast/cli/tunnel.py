"""A proxy for HTTPS on this machine, which leads fal's hosts to our server, and others where they are.

fal's Python client has the hosts of its uploads as constants; `HTTPS_PROXY` is what leads them here. It sees
nothing of what it passes on: the server shows a certificate for those names.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Collection, Iterator

#: A client that has not said where to by then is none; seconds. A host that does not answer by then, neither.
HEAD_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 30.0
CHUNK_BYTES = 64 * 1024

PORTS = range(1, 65536)

Address = tuple[str, int]
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Refused(Exception):
    """An answer to who cannot be led anywhere: status and reason."""


@contextlib.contextmanager
def tunnel(listener: socket.socket, *, names: Collection[str], server: Address) -> Iterator[None]:
    """Serve on `listener` inside the block: who asks for one of `names` gets `server`."""
    loop = asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.CancelledError):
            await _lead((reader, writer), names, server)

    def run() -> None:
        loop.run_until_complete(asyncio.start_server(serve, sock=listener))
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=run, name="tunnel", daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _lead(client: Pair, names: Collection[str], server: Address) -> None:
    try:
        host, port = await _asked(client[0])
        address = server if host in names else (host, port)
        with _refusing(TimeoutError, OSError, UnicodeError, told="502 Bad Gateway"):
            other = await asyncio.wait_for(asyncio.open_connection(*address), CONNECT_TIMEOUT_S)
    except Refused as error:
        client[1].write(f"HTTP/1.1 {error}\r\nConnection: close\r\n\r\n".encode())
        return
    client[1].write(b"HTTP/1.1 200 Connected\r\n\r\n")
    with contextlib.closing(other[1]):
        await asyncio.gather(_pass(client[0], other[1]), _pass(other[0], client[1]))


async def _asked(reader: asyncio.StreamReader) -> Address:
    """The host and port that a CONNECT names (RFC 9110, section 9.3.6). Refused."""
    with _refusing(TimeoutError, EOFError, asyncio.LimitOverrunError, ValueError, told="400 Bad Request"):
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_TIMEOUT_S)
        method, target, _ = head.split(b"\r\n", 1)[0].decode("ascii").split()
        if method != "CONNECT":
            raise Refused("405 Method Not Allowed")
        host, _, port = target.rpartition(":")
        if int(port) not in PORTS:
            raise Refused("400 Bad Request")
        return host.strip("[]").lower(), int(port)


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(CHUNK_BYTES):
        sink.write(chunk)
        await sink.drain()
    sink.write_eof()


@contextlib.contextmanager
def _refusing(*kinds: type[Exception], told: str) -> Iterator[None]:
    try:
        yield
    except kinds as error:
        raise Refused(told) from error
