"""The floor of any Python web tier: a gunicorn worker with gevent that sends a head and keeps the socket.

No framework, no route, no job: what a connection costs before the first line of an application's own.
"""

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.actor import ROOT
from benchmarks.load import Target
from benchmarks.system import free_port, serving

_held: list[int] = []


def app(environ: dict[str, Any], start_response: Callable[..., Callable[[bytes], Any]]) -> Iterable[bytes]:
    write = start_response("200 OK", [("Content-Type", "text/event-stream")])
    write(b"retry: 1000\n")
    _held.append(os.dup(environ["gunicorn.socket"].fileno()))
    # It ends gunicorn's part in this connection.
    raise StopIteration


class BareGunicorn:
    """A server from entering to leaving."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._here = f"127.0.0.1:{free_port()}"
        self._running = ExitStack()

    def target(self) -> Target:
        return Target(url=f"http://{self._here}/", pids={"web": self._process.pid})

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        options = ["-k", "gevent", "-b", self._here, "--worker-connections", "20000"]
        command = [sys.executable, "-m", "gunicorn", *options, "benchmarks.peers.bare_gunicorn:app"]
        server = serving(command, self._here, self._folder / "gunicorn.log", PYTHONPATH=str(ROOT))
        self._process = self._running.enter_context(server)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._running.close()
