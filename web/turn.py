"""Who has much to do at once lets others run in between: nobody holds the process for long."""

import time
from collections.abc import Callable

import gevent

#: How long one goes on before somebody else gets a turn.
TURN_S = 0.002
#: How they get it: for a sleep of nothing gevent lets run whoever can already, and looks at no socket and no
#: timer.
YIELD_S = 1e-6


class Turn:
    """Of a greenlet; `sleep` is another one where it may be a thread. Between two turns the world changes."""

    def __init__(self, sleep: Callable[[float], object] = gevent.sleep) -> None:
        self._sleep = sleep
        self._ends_at = time.monotonic() + TURN_S

    def give(self) -> None:
        """Let others run, if it is over."""
        if time.monotonic() > self._ends_at:
            self._sleep(YIELD_S)
            self._ends_at = time.monotonic() + TURN_S
