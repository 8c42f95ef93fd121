"""Step 6. A rank's stdout and stderr: pipes to its parent, C level included."""

import contextlib
import ctypes
import io
import os
import sys

_libc = ctypes.CDLL(None)


def take_over(stdout_fd: int, stderr_fd: int) -> None:
    """Make these descriptors this process' stdout and stderr, for Python line by line."""
    for number, fd in ((1, stdout_fd), (2, stderr_fd)):
        os.dup2(fd, number)
        os.close(fd)
    sys.stdout = sys.__stdout__ = _text(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text(2)  # type: ignore[misc]


def flush() -> None:
    """Push out what Python and C have buffered. A stream that users' code closed is its affair."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    _libc.fflush(None)


def _text(number: int) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
