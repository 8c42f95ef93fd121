"""Step 5. What /proc tells of processes, and how to end them for certain."""

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Process(NamedTuple):
    """One process, at the moment when it was asked for."""

    pid: int
    #: R, S, D, T, Z, …
    state: str
    #: The pid of the one that began its session.
    session: int
    thread_count: int

    @property
    def is_alive(self) -> bool:
        """Whether it can hold anything. A zombie only waits to be reaped, unless threads of it are
        still on their way out."""
        return self.state not in "ZX" or self.thread_count > 1

    @property
    def is_stopped(self) -> bool:
        """By a signal (SIGSTOP), and not by a debugger, which lets it go on again."""
        return self.state == "T"


def process(pid: int) -> Process | None:
    """None for one that is gone."""
    with suppress(OSError):
        # The command's name, in brackets, may hold anything; what follows is plain: proc_pid_stat(5).
        fields = _content(f"{PROC}/{pid}/stat").rpartition(b")")[2].split()
        return Process(pid, fields[0].decode(), int(fields[3]), int(fields[17]))
    return None


def _content(path: str) -> bytes:
    """Of a file of a page at most. Every rank is looked at before each job: no file object is made."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def processes() -> Iterator[Process]:
    """All that this process can see."""
    for name in os.listdir(PROC):
        if name.isdecimal() and (found := process(int(name))):
            yield found


def end(pids: Iterable[int], timeout_s: float) -> bool:
    """SIGKILL to each; whether all are gone within `timeout_s`. False also where nobody can tell: in
    Linux before 5.3."""
    deadline = time.monotonic() + timeout_s
    with ExitStack() as open_fds:
        ending: list[int] = []
        for pid in pids:
            try:
                # It stands for this very process, whoever gets the number next.
                ending.append(os.pidfd_open(pid))
                open_fds.callback(os.close, ending[-1])
                signal.pidfd_send_signal(ending[-1], signal.SIGKILL)
            except ProcessLookupError:
                continue
            except (AttributeError, OSError):
                return False
        return all(is_readable(pidfd, deadline - time.monotonic()) for pidfd in ending)


def is_readable(fd: int, timeout_s: float) -> bool:
    """Whether there is something to read from `fd`, an end included, within `timeout_s`."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout_s) * 1000))
