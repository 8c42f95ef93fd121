"""How many streams that can be resumed a process has, and may have."""

from collections.abc import Callable

from rankcast.tasks.errors import RankcastError


class TooManyStreams(RankcastError):
    """Raised where this process has as many streams as it may; another one, or later, may have room."""

    http_status = 503
    title = "Too many streams"


class Places:
    """What a stream takes before it begins, and gives back at its end."""

    def __init__(self, limit: int) -> None:
        self.taken = 0
        self._limit = limit

    def take(self) -> Callable[[], None]:
        """A place for one more, and how to give it back, once or more often. TooManyStreams."""
        if self.taken >= self._limit:
            raise TooManyStreams(
                f"this process has {self._limit} streams, and takes no more (RANKCAST_MAX_STREAMS)"
            )
        self.taken += 1
        held = [True]

        def release() -> None:
            if held:
                held.pop()
                self.taken -= 1

        return release
