"""Step 6. Where small events lie while rank 0's publisher rests.

The thread that computes leaves them here without a lock, a clock or anybody's being woken: Python that runs
once in 10 ms finds no cache warm, so each line of it counts.
"""

from collections import deque
from collections.abc import Iterator

from rankcast.gpu_worker.messages import Call
from rankcast.gpu_worker.progress import Said

#: All of it is less than half of what the log takes at once.
MAX_EVENTS, MAX_EVENT_BYTES = 64, 1024


class Inbox:
    """Any thread puts; the publisher opens and closes it, and takes out, under its lock."""

    def __init__(self) -> None:
        self._events: deque[tuple[Call, bytes, Said | None]] = deque()
        self._open_for: Call | None = None

    def open(self, call: Call) -> None:
        """For events of this call, until it is closed; whoever closes it takes out then."""
        self._open_for = call

    def close(self) -> None:
        self._open_for = None

    def put(self, call: Call, event: bytes, said: Said | None) -> bool:
        """Whether it was open, and has room."""
        if self._open_for is not call or len(self._events) >= MAX_EVENTS or len(event) > MAX_EVENT_BYTES:
            return False
        self._events.append((call, event, said))
        return True

    def is_open(self, call: Call) -> bool:
        """Asked after `put`: if it is not, it may have been emptied before."""
        return self._open_for is call

    def take(self, call: Call | None) -> Iterator[tuple[bytes, Said | None]]:
        """Empty it: events of this call in order; others, of a call that has ended, are dropped."""
        while self._events:
            of, event, said = self._events.popleft()
            if of is call:
                yield event, said
