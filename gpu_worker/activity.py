"""Step 6. How long user code has shown no sign of progress: the clock behind `stall_s`."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


class Activity:
    """The clock of one rank. Runs from `start` to `stop`; `touch` sets it back. Safe in any thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = None
        self._holders = 0

    def start(self) -> None:
        with self._lock:
            self._since = self._clock()

    def stop(self) -> None:
        with self._lock:
            self._since = None

    def touch(self) -> None:
        with self._lock:
            if self._since is not None:
                self._since = self._clock()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A sign of progress that may have to wait, for Redis: the clock stands still meanwhile."""
        with self._lock:
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
            self.touch()

    def quiet_s(self) -> float:
        """Seconds since the last sign; 0 while the clock stands still or does not run."""
        with self._lock:
            if self._since is None or self._holders:
                return 0.0
            return self._clock() - self._since
