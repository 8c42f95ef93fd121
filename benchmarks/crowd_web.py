"""Ours before a crowd: Redis and one web process, no worker; the feeder is every job's rank 0."""

import itertools
import json
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.actor import ROOT
from benchmarks.feeder import begin
from benchmarks.load import Target
from benchmarks.system import System
from rankcast.tasks.connect import connect
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore


class CrowdWeb:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._runs = itertools.count()
        self._running = ExitStack()
        self._system = System(folder, has_worker=False)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The web tier."""
        return self._system.processes["web"]

    def target(self, channels: int = 1) -> Target:
        """Jobs that nobody has seen yet, one a channel."""
        prefix, url = f"run{next(self._runs)}-", self._system.redis_url
        with connect(url) as client:
            places = begin(JobStore(client, Settings(redis_url=url)), prefix, channels)
            redis_pid = int(client.info("server")["process_id"])
        claims = self._folder / f"{prefix}claims"
        claims.write_text("".join(json.dumps(place) + "\n" for place in places))
        feeder = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "benchmarks.feeder", url, str(claims)]
        return Target(
            url=f"http://127.0.0.1:{self._system.port}/jobs/{prefix}{{ch}}/stream",
            publish=f"cmd:{shlex.join(feeder)}",
            pids={"web": self.process.pid, "redis": redis_pid},
        )

    def __enter__(self) -> Self:
        self._running.enter_context(self._system)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._running.close()
