"""Step 6. What the log took last: kept for as long as a restart of Redis may lose it.  Pure."""

from collections import deque

from rankcast.gpu_worker.pace import is_quick


class Taken:
    """Events in order, (kind, data) each, with when the log took them; it ends with the last."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, tuple[str, bytes]]] = deque()
        #: Of their data, in bytes.
        self.size = 0

    def __len__(self) -> int:
        return len(self._events)

    def add(self, event: tuple[str, bytes], now: float) -> None:
        self._events.append((now, event))
        self.size += len(event[1])

    def take_back(self) -> tuple[str, bytes]:
        """The last one, which the log lost."""
        _, event = self._events.pop()
        self.size -= len(event[1])
        return event

    def let_go(self, before: float, max_size: int) -> None:
        """Drop those that were taken before that time, or that need the room."""
        while self._events and (self._events[0][0] < before or self.size > max_size):
            self.size -= len(self._events.popleft()[1][1])

    def came_quickly(self, now: float) -> bool:
        """As pace.is_quick."""
        return is_quick(self._events, now)
