"""Pages of logs that viewers of this process read, for those who come after them.

A thousand viewers that join a job at once, or come back to it, cost one read and one copy.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable

from rankcast.tasks.live import Batch

#: Memory of all pages of a process, about.
PAGES_BYTES = 32 * 1024 * 1024


class Pages:
    """The pages that were asked for last, bounded in bytes. Safe between threads."""

    def __init__(self, max_bytes: int = PAGES_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._pages: OrderedDict[Hashable, Batch] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Batch | None:
        with self._lock:
            if (page := self._pages.get(key)) is not None:
                self._pages.move_to_end(key)
            return page

    def keep(self, key: Hashable, page: Batch) -> None:
        with self._lock:
            self._bytes -= _cost(self._pages.pop(key, None))
            self._pages[key] = page
            self._bytes += _cost(page)
            while self._bytes > self._max_bytes:
                self._bytes -= _cost(self._pages.popitem(last=False)[1])


def _cost(page: Batch | None) -> int:
    return 0 if page is None else page.size
