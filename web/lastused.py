"""Notes in Redis when each API key was used last, beside the requests and never in their way."""

import logging
import threading
import time
from collections.abc import Callable

from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.keyuse import KeyUse

#: Between two notes of one key, in each process.
NOTE_EVERY_S = 60.0

log = logging.getLogger(__name__)


class LastUsed:
    """Safe to share between threads; forgets nothing, but there are only as many keys as the file has."""

    def __init__(self, key_use: KeyUse, clock: Callable[[], float] = time.monotonic) -> None:
        self._key_use = key_use
        self._clock = clock
        self._noted: dict[str, float] = {}

    def note(self, key_id: str) -> None:
        """The key is being used. Returns at once, whatever becomes of the note."""
        now = self._clock()
        noted = self._noted.get(key_id)
        if noted is None or now - noted >= NOTE_EVERY_S:
            self._noted[key_id] = now
            # Its own thread: Redis may be away, and then the note is lost and the request is not late.
            threading.Thread(target=self._write, args=[key_id], name="key-use", daemon=True).start()

    def _write(self, key_id: str) -> None:
        try:
            self._key_use.note(key_id)
        except StoreUnavailable as error:
            log.info("the use of key %s was not noted: %s", key_id, error)
