"""The floor of each hop from a POST to the first event at its viewer; floor_processes.py is the other end.

    http      connecting, and a POST to gunicorn with gevent, until a minimal Flask route has made one round
              trip to Redis: ours queues the job in it (create.lua)
    celery    send_task until the first line of the task, on a bare worker with a threads pool
    script    one EVALSHA, there and back: claim.lua
    dispatch  a pickled message over a multiprocessing pipe, until a warm process has it
    event     one script that appends and publishes (append.lua), until a subscriber has it
    chunk     a write of gunicorn with gevent, until a raw socket has it

All but the script are one way, so that nothing is counted twice. That the job runs goes in one batch with its
first event. What a web process does to follow the job lies beside this way.
"""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from benchmarks.actor import Reply, serve
from benchmarks.payload import make_event
from benchmarks.peers.floor_processes import EVENTS, QUEUE, REDIS_URL, TOLD, Pipe, app, rank, subscriber
from benchmarks.system import free_port, serving

MODULE = "benchmarks.peers.floor_processes"
ANSWER_WITHIN_S = 60
RECV_BYTES = 1 << 16
#: What a claim is at least; and an append.
SCRIPT = "return redis.call('HSET', 'bench:floor:record', 'state', ARGV[1])"
APPEND = """
redis.call('XADD', ARGV[1], 'MAXLEN', 100, '*', 'd', ARGV[2])
return redis.call('PUBLISH', ARGV[1], ARGV[2])
"""


class Floors:
    """Each hop gives nanoseconds."""

    def __init__(self, address: tuple[str, int], client: redis.Redis, to_rank: Pipe, heard: Pipe) -> None:
        self._address = address
        self._redis = client
        self._to_rank = to_rank
        self._heard = heard
        self._script, self._append = (str(client.script_load(text)) for text in (SCRIPT, APPEND))
        self._event = json.dumps(make_event(0))

    def hops(self, calls: int, pause_s: float) -> Reply:
        """Each hop `calls` times, one after the other as a job goes them, and then a pause; milliseconds."""
        hops: list[Callable[[], int]] = [
            self.http, self.celery, self.script, self.dispatch, self.event, self.chunk,
        ]  # fmt: skip
        ms: dict[str, list[float]] = {hop.__name__: [] for hop in hops}
        for _ in range(calls):
            for hop in hops:
                ms[hop.__name__].append(hop() / 1e6)
            time.sleep(pause_s)
        return {"ms": ms}

    def http(self) -> int:
        began_ns = time.monotonic_ns()
        with self._request("POST", self._event) as connection:
            answer = b"".join(iter(lambda: connection.recv(RECV_BYTES), b""))
        return int(json.loads(answer.partition(b"\r\n\r\n")[2])["at_ns"]) - began_ns

    def celery(self) -> int:
        began_ns = time.monotonic_ns()
        app.send_task("bench.first_line", queue=QUEUE, declare=[])
        told: Any = self._redis.blpop([TOLD], timeout=ANSWER_WITHIN_S)
        return int(told[1]) - began_ns

    def script(self) -> int:
        began_ns = time.monotonic_ns()
        self._redis.evalsha(self._script, 0, "running")
        return time.monotonic_ns() - began_ns

    def dispatch(self) -> int:
        began_ns = time.monotonic_ns()
        self._to_rank.send({"job_id": "floor", "input": self._event})
        return int(self._to_rank.recv()) - began_ns

    def event(self) -> int:
        began_ns = time.monotonic_ns()
        self._redis.evalsha(self._append, 0, EVENTS, self._event)
        return int(self._heard.recv()) - began_ns

    def chunk(self) -> int:
        received = b""
        with self._request("GET", "") as connection:
            while b"data: " not in received:
                received += connection.recv(RECV_BYTES)
            at_ns = time.monotonic_ns()
        return at_ns - int(received.partition(b"data: ")[2].split(b"\n")[0])

    def _request(self, method: str, body: str) -> socket.socket:
        connection = socket.create_connection(self._address, timeout=ANSWER_WITHIN_S)
        head = f"{method} / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        return connection


def start(running: ExitStack, url: str, logs: Path) -> Floors:
    """All processes, ended with `running`."""
    os.environ[REDIS_URL] = app.conf.broker_url = url
    port = free_port()
    options = ["-k", "gevent", "-b", f"127.0.0.1:{port}"]
    gunicorn = [sys.executable, "-m", "gunicorn", *options, f"{MODULE}:web"]
    running.enter_context(serving(gunicorn, f"127.0.0.1:{port}", logs / "floor-web.log"))
    client = running.enter_context(redis.Redis.from_url(url))
    to_rank = _begin(rank)
    heard = _begin(subscriber, url)
    heard.recv()
    options = ["-b", url, "worker", "-P", "threads", "-c", "1", "--loglevel", "WARNING", "--without-mingle"]
    worker = running.enter_context(subprocess.Popen([sys.executable, "-m", "celery", "-A", MODULE, *options]))
    running.callback(worker.terminate)
    return Floors(("127.0.0.1", port), client, to_rank, heard)


def _begin(target: Callable[..., None], *args: str) -> Pipe:
    """Our end of the pipe of a process that ends with this one."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=target, args=(*args, theirs), daemon=True).start()
    return ours


if __name__ == "__main__":
    with ExitStack() as stack:
        serve([start(stack, sys.argv[1], Path(sys.argv[2])).hops])
