"""Who leaves a stream closes its connection, in every way there is to leave."""

import asyncio
import gc
import socket
import threading
from collections.abc import Iterator

import pytest
from helpers import wait_until

from rankcast import AsyncClient, Client

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
FRAMES = b"".join(b"id: 1-%d\ndata: %d\n\n" % (n, n) for n in range(1, 4))


class EndlessStream:
    """Sends a few events to each connection, and then nothing; knows how many are open."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.opened = 0
        self.closed = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.opened += 1
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            connection.sendall(HEAD + FRAMES)
            try:
                while connection.recv(65536):
                    pass
            except ConnectionResetError:
                pass
        self.closed += 1

    def was_left(self) -> bool:
        return self.opened == self.closed == 1

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def server() -> Iterator[EndlessStream]:
    server = EndlessStream()
    yield server
    server.close()


async def left(server: EndlessStream) -> None:
    """Wait, in the event loop, until the server saw its one connection end."""
    async with asyncio.timeout(60):
        while not server.was_left():
            await asyncio.sleep(0.01)


def test_breaking_out_of_the_loop_closes_the_connection(server):
    """While the client lives on."""
    with Client(server.url) as client:
        for event in client.job("x").stream():
            if event.data == 2:
                break
        wait_until(server.was_left, "the end of the connection")


def test_a_stream_that_is_kept_can_be_closed(server):
    """By hand or by a `with`; a second time does nothing, and it gives no event any more."""
    with Client(server.url) as client:
        with client.job("x").stream() as stream:
            assert next(stream).data == 1
            assert stream.job.id == "x"
        wait_until(server.was_left, "the end of the connection")
        stream.close()
        assert list(stream) == []


def test_breaking_out_of_an_async_loop_closes_the_connection(server):
    """Nobody has to know of `aclosing`."""

    async def main() -> None:
        async with AsyncClient(server.url) as client:
            async for event in client.job("x").stream():
                if event.data == 2:
                    break
            gc.collect()
            await left(server)

    asyncio.run(main())


def test_an_async_stream_that_is_kept_can_be_closed(server):
    """By hand or by an `async with`; it gives no event any more."""

    async def main() -> None:
        async with AsyncClient(server.url) as client:
            async with client.job("x").stream() as stream:
                assert (await anext(stream)).data == 1
                assert stream.job.id == "x"
            await left(server)
            assert [event async for event in stream] == []

    asyncio.run(main())


def test_a_task_that_is_cancelled_closes_its_connection_at_once(server):
    """In the middle of a read, and the client goes on to be of use."""

    async def use(client: AsyncClient, seen: asyncio.Event) -> None:
        async for _ in client.job("x").stream():
            seen.set()

    async def main() -> None:
        async with AsyncClient(server.url) as client:
            seen = asyncio.Event()
            task = asyncio.create_task(use(client, seen))
            await asyncio.wait_for(seen.wait(), 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await left(server)
            assert (await anext(client.job("x").stream())).data == 1

    asyncio.run(main())


def test_the_sync_client_works_inside_of_a_running_event_loop(server):
    """As in a notebook; it blocks there, and needs nothing of the loop."""

    async def main() -> None:
        with Client(server.url) as client:
            for event in client.job("x").stream():
                if event.data == 3:
                    break
        await left(server)

    asyncio.run(main())


def test_there_is_no_thread_behind_the_async_client(server):
    """Its time-outs are the loop's."""
    before, seen = {*threading.enumerate()}, set()

    async def watch(client: AsyncClient) -> None:
        async for _ in client.job("x").stream(timeout_s=0.5):
            seen.update(threading.enumerate())

    async def main() -> None:
        async with AsyncClient(server.url) as client:
            with pytest.raises(TimeoutError):
                await watch(client)
            await left(server)

    asyncio.run(main())
    assert [thread.name for thread in seen - before if "_serve" not in thread.name] == []
    assert seen
