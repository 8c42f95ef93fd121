"""Step 5. How a wait for ranks is cut short: by a deadline, or by another thread through a Control."""

import contextlib
import os
import threading
import time
from typing import NamedTuple, Self

from rankcast.tasks.job import JobErrorInfo


class Cut(Exception):
    """The wait is over before the ranks are done; `error` says why."""

    def __init__(self, error: JobErrorInfo) -> None:
        super().__init__(error.message)
        self.error = error


class Limit(NamedTuple):
    """When an attempt must have ended, on time.monotonic's clock, and the error if it has not."""

    at: float
    error: JobErrorInfo


class Control:
    """How other threads reach the one that supervises an attempt, and the `limit` that holds for all of
    it. A context manager; what is asked of it after its end has no effect."""

    def __init__(self, limit: Limit | None = None) -> None:
        self.limit = limit
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        # Reentrant: a signal handler may ask while this very thread does.
        self._lock = threading.RLock()
        self._is_open = True
        self.is_cancel_requested = False
        self.is_abandoned = False

    def request_cancel(self) -> None:
        """Ask the ranks to stop; after the task's grace the group is killed. A group that is still
        starting is killed at once."""
        self.is_cancel_requested = True
        self._wake()

    def abandon(self) -> None:
        """Kill the group now: the job is somebody else's, or the worker leaves."""
        self.is_abandoned = True
        self._wake()

    def fileno(self) -> int:
        """Readable when something was asked; for the thread that supervises."""
        return self._wake_r

    def rest(self) -> None:
        """Not readable any more, until something else is asked."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_r, 1024)

    def close(self) -> None:
        with self._lock:
            if self._is_open:
                self._is_open = False
                os.close(self._wake_r)
                os.close(self._wake_w)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wake(self) -> None:
        # A full pipe wakes as well.
        with self._lock, contextlib.suppress(BlockingIOError):
            if self._is_open:
                os.write(self._wake_w, b"!")


class Deadlines:
    """What ends a wait, and when."""

    def __init__(self, limit: Limit | None = None) -> None:
        self._pending: dict[str, tuple[float, JobErrorInfo | None]] = {}
        if limit is not None:
            self._pending["total"] = limit

    def __contains__(self, name: str) -> bool:
        return name in self._pending

    def set(self, name: str, in_s: float, error: JobErrorInfo | None = None) -> None:
        """The first time counts. At a deadline with no error the wait just ends."""
        self._pending.setdefault(name, (time.monotonic() + in_s, error))

    def left_s(self) -> float | None:
        """Seconds to the next one; None if there is none."""
        if not self._pending:
            return None
        return max(0.0, min(when for when, _ in self._pending.values()) - time.monotonic())

    def have_passed(self) -> bool:
        """Whether one has passed; Cut if that one has an error."""
        now = time.monotonic()
        passed = [error for when, error in self._pending.values() if when <= now]
        if errors := [error for error in passed if error]:
            raise Cut(errors[0])
        return bool(passed)
