"""`rankcast up` as a process of its own, for as long as the demo runs."""

import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

HERE = Path(__file__).parent
#: `rankcast up` says one line with its address when, and not before, everything is up.
READY = re.compile(r"^rankcast is up at (\S+)", re.IGNORECASE)
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30


class NotUp(Exception):
    """`rankcast up` ended, or said nothing, before it was up; the message says where its log is."""


@contextlib.contextmanager
def rankcast_up(*, log: Path, env: Mapping[str, str]) -> Iterator[str]:
    """Start it with both tasks on a free port; yields its address. Stops it in any case.

    All it says goes to `log`. `env` is added to the environment of everything it starts.
    """
    # A demo touches nothing but its own: no Redis that this shell is set up for.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RANKCAST_")}
    # Its own process group: Ctrl-C reaches the demo alone, which then stops it in good order.
    process = subprocess.Popen(
        [_command(), "up", "--port", "0", "--tasks", HERE / "train.py", "--tasks", HERE / "generate.py"],
        env={**inherited, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    try:
        yield _address(process, log)
    finally:
        _stop(process)


def _command() -> str:
    """The `rankcast` that belongs to this interpreter, else the one on the PATH."""
    beside = shutil.which("rankcast", path=str(Path(sys.executable).parent))
    return beside or shutil.which("rankcast") or "rankcast"


def _address(process: subprocess.Popen[str], log: Path) -> str:
    found: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    # The pipe is read to its end, lest `up` stop at a full one.
    threading.Thread(target=_copy, args=[process.stdout, log, found], daemon=True).start()
    with contextlib.suppress(queue.Empty):
        if address := found.get(timeout=START_TIMEOUT_S):
            return address
    raise NotUp(f"`rankcast up` did not come up; what it said is in {log}")


def _copy(lines: IO[str], log: Path, found: queue.SimpleQueue[str | None]) -> None:
    with lines, log.open("w", buffering=1) as copy:
        for line in lines:
            copy.write(line)
            if match := READY.search(line):
                found.put(match[1])
    found.put(None)


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except BaseException:
        # It hangs, or the user is out of patience: a second Ctrl-C.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
