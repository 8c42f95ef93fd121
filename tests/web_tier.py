"""A real web tier and real clients of it; `from web_tier import ...`."""

import contextlib
import http.client
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import orjson
import psutil
import pytest
from helpers import wait_until

KEEPALIVE_S = 0.2


class Tls(NamedTuple):
    """Files of a server's certificate, and of the authority that clients are to trust."""

    certificate: Path
    key: Path
    authority: Path


class WebTier:
    """gunicorn with our configuration, as `rankcast web` starts it, on `port` or one of its own.

    `max_files`: the hard limit of its descriptors.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        cwd: Path | None = None,
        tls: Tls | None = None,
        max_files: int | None = None,
        **env: str,
    ) -> None:
        self._listener = socket.create_server((host, port))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self.tls = tls
        fd = self._listener.fileno()
        settings = {
            "RANKCAST_REDIS_URL": redis_url,
            "RANKCAST_BROKER_URL": redis_url,
            "RANKCAST_KEEPALIVE_S": str(KEEPALIVE_S),
            **env,
        }
        self.process = subprocess.Popen(
            [
                *(() if max_files is None else ("sh", "-c", 'ulimit -n $0; exec "$@"', str(max_files))),
                *(sys.executable, "-P", "-m", "gunicorn", "--bind", f"fd://{fd}"),
                *("--config", "python:rankcast.web.gunicorn_conf"),
                *(() if tls is None else ("--certfile", tls.certificate, "--keyfile", tls.key)),
                "rankcast.web.app:create_app()",
            ],
            env={**os.environ, **settings},
            cwd=cwd,
            pass_fds=[fd],
        )

    def wait_until_ready(self) -> None:
        # The socket listens already: this waits until somebody answers.
        trusted = True if self.tls is None else ssl.create_default_context(cafile=self.tls.authority)
        httpx.get(f"{self.url}/healthz", timeout=30, verify=trusted).raise_for_status()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """As on a host that swaps, or is being migrated: nothing runs, no connection breaks."""
        workers = psutil.Process(self.process.pid).children()
        for worker in workers:
            worker.suspend()
        try:
            yield
        finally:
            for worker in workers:
                worker.resume()

    def kill(self) -> None:
        """As when the machine's memory is over: nobody says goodbye. `stop` is still due."""
        for process in psutil.Process(self.process.pid).children():
            process.kill()
        self.process.kill()

    def stop(self) -> None:
        self._listener.close()
        self.process.terminate()
        self.process.wait(30)


@contextlib.contextmanager
def web_tier(redis_url: str, **options: Any) -> Iterator[WebTier]:
    web = WebTier(redis_url, **options)
    try:
        web.wait_until_ready()
        yield web
    finally:
        web.stop()


@contextlib.contextmanager
def two_webs(redis_url: str, **env: str) -> Iterator[tuple[WebTier, WebTier]]:
    """As behind a load balancer."""
    with web_tier(redis_url, **env) as first, web_tier(redis_url, **env) as second:
        yield first, second


#: The take-over is one file, without which all else is as it was.
needs_take_over = pytest.mark.skipif(
    find_spec("rankcast.web.takeover") is None, reason="web/takeover.py is not there"
)
#: A stream is written to the sockets of all its viewers by one greenlet, or is a generator each.
BOTH_WAYS = [pytest.param("1", id="taken-over", marks=needs_take_over), pytest.param("0", id="generator")]


class Frame(NamedTuple):
    """What stands between two blank lines of a stream; "" for a line that is not there."""

    id: str
    kind: str
    data: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.data)


def frames_of(raw: bytes) -> list[Frame]:
    """The complete frames of a stream, read as the standard says, in a few lines of our own."""
    blocks = raw.decode().split("\n\n")[:-1]
    return [frame for block in blocks if (frame := _frame(block)) is not None]


def _frame(block: str) -> Frame | None:
    lines = [line.partition(": ") for line in block.split("\n") if not line.startswith(":")]
    fields = {name: value for name, _, value in lines}
    if "data" not in fields:
        return None
    return Frame(fields.get("id", ""), fields.get("event", ""), fields["data"])


class Watch:
    """A client of a stream, reading in a thread of its own until the stream ends or `leave`."""

    def __init__(
        self,
        url: str,
        path: str,
        *,
        post: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30,
    ) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=timeout_s)
        body = None if post is None else orjson.dumps(post)
        self._connection.request("GET" if post is None else "POST", path, body, dict(headers or {}))
        self._socket = self._connection.sock
        self._response = self._connection.getresponse()
        self.status = self._response.status
        self.headers = dict(self._response.headers)
        #: As they arrived: one item a read.
        self.chunks: list[bytes] = []
        #: The stream ended in order, with the last chunk of HTTP's chunked coding.
        self.is_complete = False
        #: The connection was cut, or the server was silent for `timeout_s`.
        self.is_broken = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while chunk := self._response.read1(1 << 20):
                self.chunks.append(chunk)
            self.is_complete = True
        except (OSError, http.client.HTTPException):
            self.is_broken = True

    @property
    def raw(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def frames(self) -> list[Frame]:
        return frames_of(self.raw)

    @property
    def ids(self) -> list[str]:
        return [frame.id for frame in self.frames]

    def results(self) -> list[Any]:
        """The data of what the task streamed, without what else a stream carries."""
        return [frame.json for frame in self.frames if frame.kind == ""]

    def until(self, count: int) -> list[Frame]:
        """Wait for so many frames."""
        wait_until(lambda: len(self.frames) >= count, f"{count} frames, not only {self.raw!r}")
        return self.frames

    def to_end(self) -> list[Frame]:
        """Wait until the server has ended the stream in order."""
        self._over()
        assert self.is_complete, f"cut off after {self.raw[-500:]!r}"
        return self.frames

    def to_break(self) -> list[Frame]:
        """Wait until the server has cut the stream off."""
        self._over()
        assert self.is_broken, f"ended in order after {self.raw[-500:]!r}"
        return self.frames

    def _over(self) -> None:
        wait_until(
            lambda: self.is_complete or self.is_broken, f"an end of the stream after {self.raw[-500:]!r}"
        )
        self.leave()

    def leave(self) -> None:
        """Close the connection, as a client does that goes away."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._response.close()
        self._connection.close()


def told(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem of a refusal, checked for what each of them must have."""
    problem: dict[str, Any] = response.json()
    assert (response.status_code, problem["type"]) == (status, f"urn:rankcast:problem:{slug}"), problem
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in response.text
    return problem
