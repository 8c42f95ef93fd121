"""Bytes over HTTP, in two ways: one blocks, one awaits. Neither decides anything; over_http.py does.

Both look alike, so that the rules are written once. The coroutines of `BlockingIo` never wait
(blocking.py says what that is for).
"""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, cast

import httpx


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self) -> dict[str, Any]:
        """The members of an RFC 9457 document; empty for a body that is none."""
        try:
            body = self.json()
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}


class Answer(Protocol):
    """An answer whose body comes in chunks. httpx.TransportError when its connection breaks."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> httpx.Headers: ...
    async def chunk(self) -> bytes:
        """The next part of the body; empty at its end."""
        ...

    async def close(self) -> None: ...


async def whole(answer: Answer) -> Reply:
    """The answer, when all of it is there."""
    parts = []
    while chunk := await answer.chunk():
        parts.append(chunk)
    return Reply(answer.status_code, b"".join(parts))


class Io(Protocol):
    """One client's connections; `options` are those of httpx.Client."""

    def __init__(self, **options: Any) -> None: ...
    @property
    def http(self) -> httpx.Client | httpx.AsyncClient: ...
    async def send(self, request: httpx.Request, timeout_s: float | None) -> Answer:
        """The head of the answer. The connection is cut `timeout_s` from now, whatever it brings."""
        ...

    def body(self, chunks: Iterable[bytes]) -> Iterable[bytes] | AsyncIterable[bytes]:
        """A request's body, as this client's httpx wants it."""
        ...

    async def sleep(self, seconds: float) -> None: ...
    async def close(self) -> None: ...


class BlockingIo:
    """Waits in the thread that calls; threads may share one."""

    def __init__(self, **options: Any) -> None:
        self.http = httpx.Client(**options)

    async def send(self, request: httpx.Request, timeout_s: float | None) -> "BlockingAnswer":
        return BlockingAnswer(self.http.send(request, stream=True), timeout_s)

    def body(self, chunks: Iterable[bytes]) -> Iterable[bytes]:
        return chunks

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def close(self) -> None:
        self.http.close()


class BlockingAnswer:
    """Cut off after `timeout_s`, by the second.

    A read timeout would not do that: each keepalive starts it anew. Shutting the socket down is the
    one thing that another thread may do to a blocked read.
    """

    def __init__(self, response: httpx.Response, timeout_s: float | None) -> None:
        self._response = response
        self._chunks: Iterator[bytes] = response.iter_bytes()
        self.status_code = response.status_code
        self.headers = response.headers
        self._timer: threading.Timer | None = None
        if timeout_s is not None:
            sock = response.extensions["network_stream"].get_extra_info("socket")
            self._timer = threading.Timer(timeout_s, _shut_down, [sock])
            self._timer.daemon = True
            self._timer.start()

    async def chunk(self) -> bytes:
        return next(self._chunks, b"")

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._response.close()


def _shut_down(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # It was closed in the same moment.


class AsyncIo:
    """Waits in asyncio's event loop; a task that is cancelled leaves no connection behind."""

    def __init__(self, **options: Any) -> None:
        self.http = httpx.AsyncClient(**options)

    async def send(self, request: httpx.Request, timeout_s: float | None) -> "AsyncAnswer":
        cut_at = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        try:
            async with asyncio.timeout_at(cut_at):
                response = await self.http.send(request, stream=True)
        except TimeoutError:
            raise httpx.ReadTimeout("it did not answer in time", request=request) from None
        return AsyncAnswer(response, cut_at)

    async def body(self, chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        await self.http.aclose()


class AsyncAnswer:
    """Cut off at `cut_at`, on the loop's clock."""

    def __init__(self, response: httpx.Response, cut_at: float | None) -> None:
        self._response = response
        self._chunks = cast(AsyncGenerator[bytes, None], response.aiter_bytes())
        self._cut_at = cut_at
        self.status_code = response.status_code
        self.headers = response.headers

    async def chunk(self) -> bytes:
        try:
            async with asyncio.timeout_at(self._cut_at):
                return await anext(self._chunks, b"")
        except TimeoutError:
            raise httpx.ReadTimeout("its time is over", request=self._response.request) from None

    async def close(self) -> None:
        await self._chunks.aclose()
        await self._response.aclose()
