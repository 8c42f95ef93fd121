"""The way to the jobs through the web tier, over HTTP."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn
from urllib.parse import quote

import httpx

from rankcast.errors import (
    ConnectionLost,
    Fault,
    InvalidInput,
    QueueFull,
    RankcastError,
    RequestRefused,
    ServerUnreachable,
    StoreUnavailable,
    UnknownJob,
    UnknownTask,
)
from rankcast.sse import Message, Parser
from rankcast.transport import LogLine, Messages, Outcome

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


class HttpTransport:
    """Talks to one server at `url`; may be shared by threads. `close()` ends its connections."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url,
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            # Streams hold a connection each, for as long as they last: no cap of its own.
            limits=httpx.Limits(max_connections=None),
        )

    def close(self) -> None:
        self._http.close()

    def submit(
        self, task: str, input: Any, options: Mapping[str, Any], idempotency_key: str | None = None
    ) -> str:
        """Queue a job; its id. ValueError for a key that no header can carry."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        if idempotency_key is not None and not (idempotency_key.isascii() and idempotency_key.isprintable()):
            raise ValueError(f"not an idempotency key: {idempotency_key[:40]!r}")
        body = {"task": task, "input": input, **({"options": dict(options)} if options else {})}
        answer = self.json("POST", "/jobs", body=body, headers=headers, task=task)
        return str(answer["job_id"])

    def record(self, job_id: str) -> dict[str, Any]:
        return dict(self.json("GET", f"/jobs/{quote(job_id, safe='')}", job_id=job_id))

    def outcome(self, job_id: str) -> Outcome | None:
        response = self._send("GET", f"/jobs/{quote(job_id, safe='')}/result")
        if response.status_code == 202:
            return None
        if response.is_success:
            return Outcome("succeeded", response.json(), {})
        problem = _problem(response)
        match _kind(problem):
            case "job-failed":
                return Outcome("failed", None, problem["error"])
            case "job-cancelled":
                return Outcome("cancelled", None, problem["error"])
        _refuse(response, job_id=job_id)

    def cancel(self, job_id: str) -> str:
        answer = self.json("POST", f"/jobs/{quote(job_id, safe='')}/cancel", job_id=job_id)
        return str(answer["state"])

    def logs(self, job_id: str) -> list[LogLine]:
        answer = self.json("GET", f"/jobs/{quote(job_id, safe='')}/logs", job_id=job_id)
        return [LogLine(**{name: line[name] for name in LogLine._fields}) for line in answer["logs"]]

    @contextmanager
    def connect(
        self, job_id: str, cursor: str | None, *, is_from_now: bool = False, timeout_s: float | None = None
    ) -> Iterator[Messages | None]:
        headers = {} if cursor is None else {"Last-Event-ID": cursor}
        params = {"from": "now"} if is_from_now and cursor is None else {}
        with self._stream(job_id, headers, params) as response:
            with _cut_after(response, timeout_s):
                yield None if response.status_code == 204 else ResponseMessages(response)

    def json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        job_id: str = "",
        task: str = "",
    ) -> Any:
        """The JSON of a 2xx answer; everything else is raised as the error that it is."""
        response = self._send(method, path, params=params, body=body, headers=headers)
        if not response.is_success:
            _refuse(response, job_id=job_id, task=task)
        return response.json()

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            return self._http.request(method, path, params=params, json=body, headers=headers)
        except httpx.TransportError as error:
            raise self._broken(error) from error

    @contextmanager
    def _stream(
        self, job_id: str, headers: Mapping[str, str], params: Mapping[str, str]
    ) -> Iterator[httpx.Response]:
        request = self._http.build_request(
            "GET",
            f"/jobs/{quote(job_id, safe='')}/stream",
            headers={**STREAM_HEADERS, **headers},
            params=params,
            timeout=httpx.Timeout(SILENCE_S, connect=CONNECT_S),
        )
        try:
            response = self._http.send(request, stream=True)
        except httpx.TransportError as error:
            raise self._broken(error) from error
        try:
            if not response.is_success:
                response.read()
                _refuse(response, job_id=job_id)
            yield response
        except httpx.TransportError as error:
            raise self._broken(error) from error
        finally:
            response.close()

    def _broken(self, error: httpx.TransportError) -> RankcastError:
        reason = str(error) or type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
            return ServerUnreachable(self.url, reason)
        return ConnectionLost(f"the connection to {self.url} broke: {reason}")


class ResponseMessages:
    """The messages of one streamed answer."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._parser = Parser()

    @property
    def retry_ms(self) -> int | None:
        return self._parser.retry_ms

    def __iter__(self) -> Iterator[Message]:
        for chunk in self._response.iter_bytes():
            yield from self._parser.feed(chunk)


@contextmanager
def _cut_after(response: httpx.Response, timeout_s: float | None) -> Iterator[None]:
    """End a stream after `timeout_s`, to the second.

    A read timeout would not: each keepalive starts it anew. Shutting the socket down is the one
    thing that another thread may do to a blocked read.
    """
    if timeout_s is None:
        yield
        return
    sock = response.extensions["network_stream"].get_extra_info("socket")
    timer = threading.Timer(timeout_s, _shut_down, [sock])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut_down(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # It was closed in the same moment.


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _kind(problem: Mapping[str, Any]) -> str:
    """The last part of a problem's `type`, which is what programs tell problems apart by."""
    return str(problem.get("type", "")).rpartition(":")[2]


def _refuse(response: httpx.Response, *, job_id: str = "", task: str = "") -> NoReturn:
    """Raise what a non-2xx answer stands for, by its problem's type; RFC 9457, section 3.1.1."""
    problem = _problem(response)
    detail = str(problem.get("detail") or f"the server answered {response.status_code}")
    match _kind(problem):
        case "unknown-task":
            raise UnknownTask(task, problem.get("known", ()))
        case "unknown-job":
            raise UnknownJob(job_id)
        case "invalid-input":
            raise InvalidInput([Fault(fault["path"], fault["message"]) for fault in problem["errors"]])
        case "queue-full":
            raise QueueFull(detail)
    # A proxy answers so too, while the server behind it restarts.
    if response.status_code in (502, 503, 504):
        raise StoreUnavailable(detail)
    raise RequestRefused(response.status_code, problem)
