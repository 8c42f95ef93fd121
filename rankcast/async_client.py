"""The async client, and the rules of the sync one: client.py runs these same coroutines.

Everything here works over HTTP on a base install; nothing in it knows Redis, Celery or torch.
"""

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from rankcast.errors import ConnectionLost, JobCancelled, JobFailed
from rankcast.event import Event
from rankcast.files import Reference, download
from rankcast.follow import Patience, follow, follow_pages, persist
from rankcast.http_io import AsyncIo, Io
from rankcast.over_http import ANSWER_S, HttpTransport
from rankcast.transport import Connection, LogLine, LogPage, Outcome, Transport
from rankcast.uploads import Source, opened

DEFAULT_URL = "http://127.0.0.1:8700"


class AsyncEventStream(AsyncIterator[Event]):
    """As `EventStream`, with `async for`, `async with` and `aclose`.

    To end it while another task waits for its next event, cancel that task.
    """

    def __init__(self, job: "AsyncJob", events: AsyncGenerator[Event, None]) -> None:
        self.job = job
        self._events = events

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def aclose(self) -> None:
        await self._events.aclose()

    async def __aenter__(self) -> "AsyncEventStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncJob:
    """As `Job`, for asyncio: the same methods, awaited."""

    def __init__(self, id: str, transport: Transport) -> None:
        self.id = id
        self._transport = transport

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def stream(self, last_event_id: str | None = None, *, timeout_s: float | None = None) -> AsyncEventStream:
        """As `Job.stream`: `async for event in job.stream()`.

        A task that is cancelled meanwhile closes the connection at once.
        """
        if last_event_id is not None and not (last_event_id.isascii() and last_event_id.isprintable()):
            raise ValueError(f"not an event id: {last_event_id[:40]!r}")
        return AsyncEventStream(self, self._events(last_event_id, timeout_s))

    async def _events(self, cursor: str | None, timeout_s: float | None) -> AsyncGenerator[Event, None]:
        patience = self._patience(timeout_s)
        try:
            async with aclosing(follow(self._from_start, cursor=cursor, patience=patience)) as messages:
                async for message in messages:
                    yield Event(message.id, message.kind, json.loads(message.data))
        except TimeoutError:
            raise self._not_ended(timeout_s) from None

    async def result(self, timeout_s: float | None = None) -> Any:
        """As `Job.result`."""
        try:
            outcome = await self._wait(self._patience(timeout_s))
        except TimeoutError:
            raise self._not_ended(timeout_s) from None
        if outcome.state == "failed":
            raise JobFailed(self.id, outcome.error)
        if outcome.state == "cancelled":
            raise JobCancelled(self.id, outcome.error)
        return outcome.output

    async def _wait(self, patience: Patience) -> Outcome:
        while (outcome := await persist(self._outcome, patience)) is None:
            # Only the end is waited for, so nothing is replayed: the log may be long.
            async with aclosing(follow(self._from_now, patience=patience)) as messages:
                async for _ in messages:
                    pass
        return outcome

    async def _outcome(self, timeout_s: float | None) -> Outcome | None:
        return await self._transport.outcome(self.id, timeout_s)

    def _from_start(self, cursor: str | None, timeout_s: float | None) -> Connection:
        return self._transport.connect(self.id, cursor, timeout_s=timeout_s)

    def _from_now(self, cursor: str | None, timeout_s: float | None) -> Connection:
        return self._transport.connect(self.id, cursor, is_from_now=True, timeout_s=timeout_s)

    async def cancel(self) -> str:
        """As `Job.cancel`."""
        return await self._transport.cancel(self.id)

    async def record(self) -> dict[str, Any]:
        """As `Job.record`."""
        return await self._transport.record(self.id)

    async def logs(self) -> list[LogLine]:
        """As `Job.logs`."""
        return list((await self._transport.logs(self.id)).lines)

    async def follow_logs(self, *, timeout_s: float | None = None) -> AsyncGenerator[LogLine, None]:
        """As `Job.follow_logs`: `async for line in job.follow_logs()`."""
        try:
            async with aclosing(follow_pages(self._page, self._patience(timeout_s))) as pages:
                async for page in pages:
                    for line in page.lines:
                        yield line
        except TimeoutError:
            raise self._not_ended(timeout_s) from None

    async def _page(self, after: str | None, timeout_s: float | None) -> LogPage:
        return await self._transport.logs(self.id, after, timeout_s)

    async def download(
        self, reference: Reference, path: str | os.PathLike[str], *, timeout_s: float | None = None
    ) -> Path:
        """As `Job.download`."""
        return await download(self._transport, reference, path, timeout_s)

    def _patience(self, timeout_s: float | None) -> Patience:
        return Patience.of(timeout_s, sleep=self._transport.sleep)

    def _not_ended(self, timeout_s: float | None) -> TimeoutError:
        return TimeoutError(f"job {self.id} has not ended within {timeout_s:g} s")


class AsyncClient:
    """As `Client`, for asyncio: the same methods, awaited. One event loop may use it."""

    #: client.py runs the same rules over an I/O that blocks.
    _io_class: type[Io] = AsyncIo

    def __init__(
        self, url: str | None = None, *, key: str | None = None, timeout_s: float = ANSWER_S
    ) -> None:
        self.url = (url or os.environ.get("RANKCAST_URL") or DEFAULT_URL).rstrip("/")
        key = os.environ.get("RANKCAST_KEY") if key is None else key
        self._transport = HttpTransport(self._io_class, self.url, key=key, timeout_s=timeout_s)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._transport.close()

    async def submit(
        self,
        task: str,
        input: Mapping[str, Any] | None = None,
        /,
        *,
        options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> AsyncJob:
        """As `Client.submit`."""
        told = input_of(input, fields)
        return self.job(await self._transport.submit(task, told, options or {}, idempotency_key))

    async def run(
        self,
        task: str,
        input: Mapping[str, Any] | None = None,
        /,
        *,
        timeout_s: float | None = None,
        options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Any:
        """As `Client.run`."""
        job = await self.submit(task, input, options=options, idempotency_key=idempotency_key, **fields)
        return await job.result(timeout_s)

    async def stream(
        self,
        task: str,
        input: Mapping[str, Any] | None = None,
        /,
        *,
        timeout_s: float | None = None,
        options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> AsyncEventStream:
        """As `Client.stream`: `async for event in await client.stream("acme/steps", prompt="x")`."""
        job = await self.submit(task, input, options=options, idempotency_key=idempotency_key, **fields)
        return job.stream(timeout_s=timeout_s)

    def job(self, job_id: str) -> AsyncJob:
        """As `Client.job`."""
        return AsyncJob(job_id, self._transport)

    async def jobs(
        self, *, task: str | None = None, state: str | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """As `Client.jobs`."""
        asked = {"task": task, "state": state, "limit": limit}
        params = {name: value for name, value in asked.items() if value is not None}
        return list((await self._transport.json("GET", "/jobs", params=params))["jobs"])

    async def tasks(self) -> list[dict[str, Any]]:
        """As `Client.tasks`."""
        return list((await self._transport.json("GET", "/tasks"))["tasks"])

    async def workers(self) -> list[dict[str, Any]]:
        """As `Client.workers`."""
        return list((await self.status())["workers"])

    async def status(self) -> dict[str, Any]:
        """As `Client.status`."""
        return dict(await self._transport.json("GET", "/workers"))

    async def download(
        self, reference: Reference, path: str | os.PathLike[str], *, timeout_s: float | None = None
    ) -> Path:
        """As `Client.download`. The file is written in the event loop, which waits for the disk meanwhile."""
        return await download(self._transport, reference, path, timeout_s)

    async def upload(
        self, source: Source, file_name: str | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """As `Client.upload`. The file is read in the event loop, which waits for the disk meanwhile."""
        patience = Patience.of(timeout_s, sleep=self._transport.sleep)
        with opened(source, patience) as upload:
            try:
                return await self._transport.upload(upload, file_name, timeout_s)
            except ConnectionLost:
                patience.left_s()
                raise


def input_of(input: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A task's input, which is given as one mapping or as keywords; TypeError for both."""
    if input is not None and fields:
        raise TypeError("give the task's input as one mapping or as keywords, not both")
    return dict(fields if input is None else input)
