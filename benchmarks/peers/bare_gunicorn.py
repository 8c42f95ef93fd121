"""The floor of any Python web tier: a gunicorn worker with gevent that sends a head and keeps the socket.

No framework, no route, no job: what a connection costs before the first line of an application's own.
"""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.actor import ROOT
from benchmarks.load import Target
from benchmarks.server import Server
from benchmarks.system import free_port, serving

_held: list[int] = []


def app(environ: dict[str, Any], start_response: Callable[..., Callable[[bytes], Any]]) -> Iterable[bytes]:
    write = start_response("200 OK", [("Content-Type", "text/event-stream")])
    write(b"retry: 1000\n")
    _held.append(os.dup(environ["gunicorn.socket"].fileno()))
    # It ends gunicorn's part in this connection.
    raise StopIteration


class BareGunicorn(Server):
    """One worker."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._here = f"127.0.0.1:{free_port()}"

    def target(self) -> Target:
        return Target(url=f"http://{self._here}/", pids={"web": self._process.pid})

    def _start(self) -> None:
        options = ["-k", "gevent", "-b", self._here, "--worker-connections", "20000"]
        command = [sys.executable, "-m", "gunicorn", *options, "benchmarks.peers.bare_gunicorn:app"]
        server = serving(command, self._here, self._folder / "gunicorn.log", PYTHONPATH=str(ROOT))
        self._process = self._running.enter_context(server)
