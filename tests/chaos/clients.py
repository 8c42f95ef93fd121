"""Everybody outside the deployment: who submits and cancels, and viewers that lose their connection.

Whoever finds one web tier gone goes to the other, as behind a load balancer.
"""

import contextlib
import http.client
import itertools
import random
import socket
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from helpers import wait_until
from web_tier import Frame, frames_of

#: A deployment that answers nobody for so long is broken.
ANSWER_TIMEOUT_S = 60.0
#: Web tiers send keepalives every second here.
SILENCE_S = 6.0
END = "end"


@dataclass(kw_only=True)
class Accepted:
    """A job that got its 202."""

    job_id: str
    task: str
    #: A cancel of it was sent; and was answered before it had ended.
    is_cancel_asked: bool = False
    is_cancelled: bool = False


class Clients:
    """Safe to use from any thread."""

    def __init__(self, urls: Sequence[str], rng: random.Random) -> None:
        self._urls = urls
        self._rng = rng
        self._http = httpx.Client(timeout=10)
        self.accepted: dict[str, Accepted] = {}
        self.viewers: list[Viewer] = []
        #: Answers of the server that no fault excuses.
        self.faults: list[str] = []
        self._may_load = threading.Event()
        self._may_load.set()

    def close(self) -> None:
        self._http.close()

    def pause_load(self) -> None:
        """Let the load submit nothing more, and wait until nobody watches anything any more."""
        self._may_load.clear()
        wait_until(
            lambda: not any(isinstance(thread, Viewer) for thread in threading.enumerate()),
            "an end of all jobs under way",
            timeout_s=ANSWER_TIMEOUT_S,
        )

    def resume_load(self) -> None:
        self._may_load.set()

    def wait_for_load(self) -> None:
        """For the load: returns when it may submit."""
        self._may_load.wait()

    def submit(self, task: str, input: Mapping[str, Any], *, priority: int = 5) -> Accepted:
        """Send it, under one idempotency key, until somebody says 202."""
        body = {"task": task, "input": input, "options": {"priority": priority}}
        key = {"Idempotency-Key": uuid.uuid4().hex}
        answer = self._insist("POST", "/jobs", {202}, json=body, headers=key)
        job = Accepted(job_id=answer.json()["job_id"], task=task)
        self.accepted[job.job_id] = job
        return job

    def cancel(self, job: Accepted) -> None:
        """Ask until it is answered."""
        job.is_cancel_asked = True
        answer = self._insist("POST", f"/jobs/{job.job_id}/cancel", {200, 202})
        job.is_cancelled = answer.status_code == 202

    def watch(self, job: Accepted, *, cuts: float) -> "Viewer":
        """A viewer from the first event to the last; it cuts itself off after a chunk with this chance."""
        viewer = Viewer(job.job_id, self._urls, cuts=cuts, rng=random.Random(self._rng.random()))
        self.viewers.append(viewer)
        viewer.start()
        return viewer

    def _insist(self, method: str, path: str, wanted: set[int], **options: Any) -> httpx.Response:
        give_up = time.monotonic() + ANSWER_TIMEOUT_S
        for url in itertools.cycle(self._rng.sample(self._urls, len(self._urls))):
            answer = None
            with contextlib.suppress(httpx.TransportError):
                answer = self._http.request(method, url + path, **options)
            if answer is not None and answer.status_code in wanted:
                return answer
            if answer is not None and answer.status_code != 503:
                self.faults.append(f"{method} {path} was answered {answer.status_code}: {answer.text[:200]}")
                raise AssertionError(self.faults[-1])
            if time.monotonic() > give_up:
                raise AssertionError(f"{method} {path}: no answer for {ANSWER_TIMEOUT_S:g} s")
            time.sleep(0.05)
        raise AssertionError("there is no web tier")


@dataclass
class Viewer(threading.Thread):
    """Reads a job's stream to its end over any number of connections; remembers one cursor."""

    job_id: str
    urls: Sequence[str]
    cuts: float
    rng: random.Random
    #: All that it was told, in order.
    frames: list[Frame] = field(default_factory=list)
    connections: int = 0
    is_complete: bool = False
    #: What the server should never have done.
    fault: str = ""

    def __post_init__(self) -> None:
        super().__init__(name=f"viewer-{self.job_id[:6]}", daemon=True)
        self._is_leaving = False
        self._cursor = ""

    def __hash__(self) -> int:
        return id(self)

    def leave(self) -> None:
        """Stop looking; whatever it has seen stays."""
        self._is_leaving = True

    def run(self) -> None:
        turn = self.rng.randrange(len(self.urls))
        while not (self._is_leaving or self.is_complete or self.fault):
            turn += 1
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._connect(self.urls[turn % len(self.urls)])
            time.sleep(0.02 + 0.1 * self.rng.random())

    def _connect(self, url: str) -> None:
        address = urlsplit(url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=SILENCE_S)
        with contextlib.closing(connection):
            headers = {"Last-Event-ID": self._cursor} if self._cursor else {}
            connection.request("GET", f"/jobs/{self.job_id}/stream", headers=headers)
            sock: socket.socket = connection.sock
            with connection.getresponse() as response:
                self.connections += 1
                if response.status == 200:
                    self._read(response, sock)
                elif response.status == 204:
                    self.is_complete = True
                elif response.status != 503:
                    self.fault = f"the stream was answered {response.status}"

    def _read(self, response: http.client.HTTPResponse, sock: socket.socket) -> None:
        rest = b""
        while not self._is_leaving and (chunk := response.read1(1 << 16)):
            whole, mark, rest = (rest + chunk).rpartition(b"\n\n")
            for frame in frames_of(whole + mark):
                self._take(frame)
            if self.is_complete or self.rng.random() < self.cuts:
                sock.shutdown(socket.SHUT_RDWR)
                return

    def _take(self, frame: Frame) -> None:
        self.frames.append(frame)
        self._cursor = frame.id or self._cursor
        self.is_complete = frame.kind == END


class Load:
    """A mixed load: as many jobs at a time as `width`, each watched by one viewer."""

    def __init__(self, clients: Clients, rng: random.Random, *, width: int) -> None:
        self._clients = clients
        self._rng = rng
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"load-{n}") for n in range(width)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No more jobs; those that run have their time."""
        self._stopping.set()
        self._clients.resume_load()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._clients.wait_for_load()
            task, input = self._draw()
            job = self._clients.submit(task, input)
            viewer = self._clients.watch(job, cuts=self._rng.choice((0.0, 0.1, 0.5)))
            if self._rng.random() < 0.15:
                self._stopping.wait(self._rng.random() * 0.1)
                self._clients.cancel(job)
            viewer.join(ANSWER_TIMEOUT_S)

    def _draw(self) -> tuple[str, dict[str, Any]]:
        """Most jobs are of one task, so that groups stay warm; some make the slots change theirs."""
        return self._rng.choices(
            [
                ("chaos/steps", {"steps": self._rng.randrange(12), "delay_s": 0.0}),
                ("chaos/steps", {"steps": self._rng.randrange(8), "delay_s": 0.02}),
                ("chaos/burst", {"count": self._rng.randrange(1, 300)}),
                ("chaos/fails", {}),
                ("chaos/trains", {"steps": self._rng.randrange(20)}),
            ],
            weights=(65, 15, 10, 5, 5),
        )[0]
