"""Ours before a crowd: Redis and one web process, no worker; the feeder is every job's rank 0."""

import itertools
import json
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks.actor import ROOT
from benchmarks.feeder import begin
from benchmarks.load import Target
from benchmarks.server import Server
from benchmarks.system import System
from rankcast.tasks.connect import connect
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore

#: Nobody renews the claims of the feeder: longer than any run.
LEASE_S = 600.0


class CrowdWeb(Server):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._runs = itertools.count()
        self._system = System(folder, has_worker=False)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The web tier."""
        return self._system.processes["web"]

    def target(self, channels: int = 1) -> Target:
        """Jobs that nobody has seen yet, one a channel."""
        prefix, url = f"run{next(self._runs)}-", self._system.redis_url
        with connect(url) as client:
            places = begin(JobStore(client, Settings(redis_url=url, lease_s=LEASE_S)), prefix, channels)
            redis_pid = int(client.info("server")["process_id"])
        claims = self._folder / f"{prefix}claims"
        claims.write_text("".join(json.dumps(place) + "\n" for place in places))
        feeder = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "benchmarks.feeder", url, str(claims)]
        return Target(
            url=f"http://127.0.0.1:{self._system.port}/jobs/{prefix}{{ch}}/stream",
            publish=f"cmd:{shlex.join(feeder)}",
            pids={"web": self.process.pid, "redis": redis_pid},
        )

    def _start(self) -> None:
        self._running.enter_context(self._system)
