"""The async client with the face of the sync one, so that one test body holds both."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

from rankcast import AsyncClient, AsyncJob


class EventLoop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(100)

    def close(self) -> None:
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class InLoop:
    """Has the methods of `target`, an AsyncClient or AsyncJob, as those of Client and Job are."""

    def __init__(self, loop: EventLoop, target: AsyncClient | AsyncJob) -> None:
        self._loop = loop
        self._target = target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        return (lambda *args, **kwargs: self._given(found(*args, **kwargs))) if callable(found) else found

    def _given(self, value: Any) -> Any:
        if asyncio.iscoroutine(value):
            return self._given(self._loop.run(value))
        if isinstance(value, AsyncJob):
            return InLoop(self._loop, value)
        return self._iterate(value) if isinstance(value, AsyncIterator) else value

    def _iterate(self, items: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    item = self._loop.run(_next(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._loop.run(items.aclose())


async def _next(items: AsyncIterator[Any]) -> Any:
    # An async generator's own awaitable is no coroutine.
    return await anext(items)


@contextlib.contextmanager
def async_client(url: str, **options: Any) -> Iterator[InLoop]:
    """An AsyncClient at `url`, used from here."""
    loop = EventLoop()
    client = AsyncClient(url, **options)
    try:
        yield InLoop(loop, client)
    finally:
        loop.run(client.aclose())
        loop.close()
