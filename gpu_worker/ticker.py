"""A thread that does one thing again and again, and lives through outages of Redis."""

import logging
import threading
from collections.abc import Callable

from rankcast.tasks.errors import StoreUnavailable

logger = logging.getLogger(__name__)


class Ticker:
    """Calls `action` every `interval_s` seconds, and at once after `poke`."""

    def __init__(self, name: str, interval_s: float, action: Callable[[], None]) -> None:
        self._name = name
        self._interval_s = interval_s
        self._action = action
        self._poked = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=f"rankcast-{name}", daemon=True)

    def start(self) -> None:
        """Begin, with a first call at once."""
        self._thread.start()

    def poke(self) -> None:
        """Do not wait for the next time."""
        self._poked.set()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread, after the call that is under way."""
        self._is_stopping = True
        self._poked.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        is_away = False
        while not self._is_stopping:
            # Cleared before the call: a poke that comes during it is answered by another.
            self._poked.clear()
            try:
                self._action()
            except StoreUnavailable as error:
                if not is_away:
                    logger.warning("%s waits for Redis: %s", self._name, error)
                is_away = True
            except Exception:
                # A worker without this thread would go on and be wrong; the next time may be better.
                logger.exception("%s failed", self._name)
            else:
                is_away = False
            if not self._is_stopping:
                self._poked.wait(self._interval_s)
