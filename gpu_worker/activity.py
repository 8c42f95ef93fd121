"""Step 6. How long user code has shown no sign of progress: the clock behind `stall_s`.

No lock: each event passes here twice, on the thread that computes.
"""

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType


class Activity:
    """The clock of one rank. Runs from `start` to `stop`; `touch` sets it back. Safe in any thread.

    `with activity.held:` is a sign of progress that may have to wait, for Redis: the clock stands still
    meanwhile.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._is_running = False
        self._since = 0.0
        self.held = _Held(self)

    def start(self) -> None:
        self.touch()
        self._is_running = True

    def stop(self) -> None:
        self._is_running = False

    def touch(self) -> None:
        self._since = self._clock()

    def quiet_s(self) -> float:
        """Seconds since the last sign; 0 while the clock stands still or does not run."""
        # In this order: who lets go of it sets the clock back before.
        if not self._is_running or self.held:
            return 0.0
        since = self._since
        return self._clock() - since


class _Held:
    """Whether somebody holds the clock. One for all threads, which may hold it at once."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        #: An item a holder: the ends of a deque, unlike a count, need no lock.
        self._holders: deque[None] = deque()

    def __bool__(self) -> bool:
        return bool(self._holders)

    def __enter__(self) -> None:
        self._holders.append(None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._activity.touch()
        self._holders.pop()
