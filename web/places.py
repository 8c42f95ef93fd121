"""How many streams that can be resumed a process has, and may have: in all, and of one API key."""

from collections import Counter
from collections.abc import Callable

from rankcast.tasks.errors import RankcastError


class TooManyStreams(RankcastError):
    """Raised where this process has as many streams as it may; another one, or later, may have room."""

    http_status = 503
    title = "Too many streams"


class Places:
    """What a stream takes before it begins, and gives back at its end.

    `per_key` None: one key may have all.
    """

    def __init__(self, limit: int, *, per_key: int | None = None) -> None:
        self.taken = 0
        #: gunicorn_conf lowers it where the system gives fewer descriptors.
        self.limit = limit
        self._per_key = limit if per_key is None else per_key
        #: By the id of their API key; no zeros.
        self._of_keys: Counter[str] = Counter()

    def take(self, key_id: str) -> Callable[[], None]:
        """A place for one more, and how to give it back, once or more often. `key_id`: whose it is; '' is
        nobody's in particular. TooManyStreams."""
        if self.taken >= self.limit:
            raise TooManyStreams(
                f"this process has {self.limit} streams, and takes no more (RANKCAST_MAX_STREAMS)"
            )
        if key_id and self._of_keys[key_id] >= self._per_key:
            raise TooManyStreams(
                f"this API key has {self._per_key} streams of this process, and gets no more "
                "(RANKCAST_MAX_STREAMS_PER_KEY)"
            )
        self.taken += 1
        self._of_keys[key_id] += 1
        held = [True]

        def release() -> None:
            if held:
                held.pop()
                self._give_back(key_id)

        return release

    def _give_back(self, key_id: str) -> None:
        self.taken -= 1
        self._of_keys[key_id] -= 1
        if not self._of_keys[key_id]:
            del self._of_keys[key_id]
