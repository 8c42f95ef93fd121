"""Step 5. A child of the forkserver, as the worker holds it: it is not the worker's own child."""

import os
import signal
import time
from contextlib import suppress
from multiprocessing import forkserver

from rankcast.gpu_worker.processes import is_readable, process


class Child:
    """A child of the forkserver. `fileno()` is readable once it has ended."""

    def __init__(self, pid: int, status_fd: int) -> None:
        self.pid = pid
        self._status_fd = status_fd
        # Tells of the end also where the forkserver, which tells the exit code, went first.
        self._pidfd = _open_pidfd(pid)

    def fileno(self) -> int:
        return self._status_fd

    def wait(self, timeout_s: float) -> bool:
        """Whether it is gone, or goes within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        fds = [self._status_fd] if self._pidfd is None else [self._status_fd, self._pidfd]
        return all(is_readable(fd, deadline - time.monotonic()) for fd in fds)

    def exitcode(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None when the forkserver went first.

        Once, and only when `fileno()` is readable.
        """
        with suppress(OSError, EOFError):
            return int(forkserver.read_signed(self._status_fd))
        return None

    def is_stopped(self) -> bool:
        """Whether a signal (SIGSTOP) has stopped it."""
        found = process(self.pid)
        return found is not None and found.is_stopped

    def kill(self) -> None:
        """SIGKILL to it and to everything in its session's process group."""
        with suppress(ProcessLookupError):
            if self._pidfd is None:
                os.kill(self.pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.kill_group()

    def kill_group(self) -> None:
        """SIGKILL to what it started and left behind. The kernel gives no process the number of a
        group that still has members, so this cannot meet a stranger while there is one."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        os.close(self._status_fd)
        if self._pidfd is not None:
            os.close(self._pidfd)


def _open_pidfd(pid: int) -> int | None:
    """A descriptor that stands for this very process, where the system has such."""
    with suppress(AttributeError, OSError):
        return os.pidfd_open(pid)
    return None
