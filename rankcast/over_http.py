"""The way to the jobs through the web tier, over HTTP: which requests are sent, and what answers mean."""

import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from rankcast.errors import ConnectionLost, RankcastError, ServerUnreachable, UnknownJob
from rankcast.http_io import Answer, Io, Reply, whole
from rankcast.refusals import outcome_of, refuse
from rankcast.sse import Message, Parser
from rankcast.tasks.state import JobState
from rankcast.transport import LogLine, LogPage, Messages, Outcome
from rankcast.uploads import Upload
from rankcast.web.exposure import is_loopback

CONNECT_S = 10.0
ANSWER_S = 30.0
#: The server sends a keepalive every 15 s: three of them missed means the line is dead.
SILENCE_S = 45.0

STREAM_HEADERS = {
    "Accept": "text/event-stream",
    # Compressed events would sit in some proxy's buffer until it is full.
    "Accept-Encoding": "identity",
    # An idle connection holds up a server that is about to go.
    "Connection": "close",
}

log = logging.getLogger(__name__)


class HttpTransport:
    """Talks to one server at `url`, as the holder of `key`. `timeout_s` is the time for an answer.

    ValueError for a key that no header can carry.
    """

    def __init__(self, io_class: type[Io], url: str, *, key: str | None, timeout_s: float = ANSWER_S) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._io = io_class(
            base_url=self.url,
            headers=_authorization(key, self.url),
            # Streams hold a connection each, for as long as they last: no cap of its own.
            limits=httpx.Limits(max_connections=None),
        )

    async def sleep(self, seconds: float) -> None:
        await self._io.sleep(seconds)

    async def close(self) -> None:
        await self._io.close()

    async def submit(
        self, task: str, input: Any, options: Mapping[str, Any], idempotency_key: str | None = None
    ) -> str:
        """Queue a job; its id. ValueError for an idempotency key that no header can carry."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        if idempotency_key is not None and not (idempotency_key.isascii() and idempotency_key.isprintable()):
            raise ValueError(f"not an idempotency key: {idempotency_key[:40]!r}")
        body = {"task": task, "input": input, **({"options": dict(options)} if options else {})}
        answer = await self.json("POST", "/jobs", body=body, headers=headers, task=task)
        return str(answer["job_id"])

    async def record(self, job_id: str) -> dict[str, Any]:
        return dict(await self.json("GET", _path(job_id), job_id=job_id))

    async def outcome(self, job_id: str, timeout_s: float | None) -> Outcome | None:
        reply = await self._reply("GET", _path(job_id, "result"), timeout_s=timeout_s)
        return outcome_of(reply, job_id)

    async def cancel(self, job_id: str) -> str:
        answer = await self.json("POST", _path(job_id, "cancel"), job_id=job_id)
        return str(answer["state"])

    async def logs(self, job_id: str, after: str | None = None, timeout_s: float | None = None) -> LogPage:
        params = {} if after is None else {"after": after}
        answer = await self.json(
            "GET", _path(job_id, "logs"), params=params, job_id=job_id, timeout_s=timeout_s
        )
        lines = [LogLine(**{name: line[name] for name in LogLine._fields}) for line in answer["logs"]]
        return LogPage(lines, answer["cursor"], JobState(answer["state"]).is_terminal)

    @asynccontextmanager
    async def connect(
        self, job_id: str, cursor: str | None, *, is_from_now: bool = False, timeout_s: float | None = None
    ) -> AsyncIterator[Messages | None]:
        request = self._request(
            "GET",
            _path(job_id, "stream"),
            headers=STREAM_HEADERS | ({} if cursor is None else {"Last-Event-ID": cursor}),
            params={"from": "now"} if is_from_now and cursor is None else {},
            read_s=SILENCE_S,
            timeout_s=timeout_s,
        )
        async with self._sent(request, timeout_s) as answer:
            if answer.status_code == 204:
                yield None
                return
            if answer.status_code != 200:
                refuse(await whole(answer), job_id=job_id)
            yield AnswerMessages(answer)

    @asynccontextmanager
    async def open(
        self, url: str, headers: Mapping[str, str], timeout_s: float | None
    ) -> AsyncIterator[Answer]:
        request = self._request("GET", self._own(url), headers=headers, read_s=SILENCE_S, timeout_s=timeout_s)
        async with self._sent(request, timeout_s) as answer:
            yield answer

    async def upload(self, upload: Upload, file_name: str | None, timeout_s: float | None) -> dict[str, Any]:
        """Store a file on the server; a reference to it."""
        return dict(
            await self.json(
                "POST",
                "/files",
                params={"file_name": file_name or upload.file_name},
                chunks=upload.chunks,
                headers=upload.headers(),
                timeout_s=timeout_s,
            )
        )

    def _own(self, url: str) -> str:
        """A URL of this server's. The key goes with the request, so it goes nowhere else."""
        if url.startswith(f"{self.url}/"):
            return url.removeprefix(self.url)
        if not url.startswith("/"):
            raise ValueError(f"{url[:80]!r} is not at {self.url}")
        return url

    async def json(self, method: str, path: str, *, job_id: str = "", task: str = "", **request: Any) -> Any:
        """The JSON of a 2xx answer; everything else is raised as the error that it is."""
        reply = await self._reply(method, path, **request)
        if not reply.is_success:
            refuse(reply, job_id=job_id, task=task)
        return reply.json()

    async def _reply(
        self, method: str, path: str, *, timeout_s: float | None = None, **request: Any
    ) -> Reply:
        sent = self._request(method, path, read_s=self._timeout_s, timeout_s=timeout_s, **request)
        async with self._sent(sent, timeout_s) as answer:
            return await whole(answer)

    def _request(
        self,
        method: str,
        path: str,
        *,
        read_s: float,
        timeout_s: float | None = None,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        chunks: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Request:
        left_s = float("inf") if timeout_s is None else timeout_s
        return self._io.http.build_request(
            method,
            path,
            params=params,
            json=body,
            content=None if chunks is None else self._io.body(chunks),
            headers=headers,
            timeout=httpx.Timeout(min(read_s, left_s), connect=min(CONNECT_S, left_s)),
        )

    @asynccontextmanager
    async def _sent(self, request: httpx.Request, timeout_s: float | None) -> AsyncIterator[Answer]:
        try:
            answer = await self._io.send(request, timeout_s)
            try:
                yield answer
            finally:
                await answer.close()
        except httpx.TransportError as error:
            raise self._broken(error) from error

    def _broken(self, error: httpx.TransportError) -> RankcastError:
        reason = str(error) or type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
            return ServerUnreachable(self.url, reason)
        return ConnectionLost(f"the connection to {self.url} broke: {reason}")


class AnswerMessages:
    """The messages of one streamed answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._parser = Parser()

    @property
    def retry_ms(self) -> int | None:
        return self._parser.retry_ms

    async def read(self) -> Sequence[Message]:
        while chunk := await self._answer.chunk():
            if messages := list(self._parser.feed(chunk)):
                return messages
        return ()


def _path(job_id: str, *rest: str) -> str:
    """UnknownJob for what no path can have as one of its parts, however it is quoted."""
    if job_id in ("", ".", "..") or "/" in job_id:
        raise UnknownJob(job_id)
    return "/".join(["/jobs", quote(job_id, safe=""), *rest])


def _authorization(key: str | None, url: str) -> dict[str, str]:
    """The header that says who asks. Errors and logs never show it."""
    if not key:
        return {}
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("the key (RANKCAST_KEY) must be printable ASCII characters without spaces")
    address = urlsplit(url)
    if address.scheme == "http" and not is_loopback(address.hostname or ""):
        log.warning("the key goes to %s without encryption: whoever is on the way can read it", url)
    return {"Authorization": f"Key {key}"}
