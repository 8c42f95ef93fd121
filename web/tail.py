"""Step 7, its memory. The newest events of one job, as this process heard them.  Pure.

Viewers have no queues: each has a cursor, and they share one tail per job, so a slow viewer costs
nothing and a thousand viewers cost one copy. A viewer that falls behind the tail reads the log.

A tail is a chain: each batch begins with the event after the last one of the batch before. What
breaks the chain (a message was lost, or came without frames) starts it afresh, and a
viewer whose cursor is not in the chain is sent to the log. Its cursor must be an entry of the chain
and not merely lie between two: after a restart of Redis that lost events, it may be neither.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from operator import attrgetter

from rankcast.tasks.event import EventId
from rankcast.tasks.live import Batch

#: Memory of one job's tail, about, and of all tails of a process.
TAIL_BYTES, TAILS_BYTES = 2 * 1024 * 1024, 256 * 1024 * 1024
#: Most that a viewer is given at once, unless one batch of the tail is larger or one event of the
#: log: it holds that much while its client does not read, and a thousand viewers may.
CHUNK_BYTES = 32 * 1024

_last = attrgetter("last")


class Room:
    """What the tails of a process may hold together; each has the same of it, and not more than one needs."""

    def __init__(self, max_bytes: int = TAILS_BYTES) -> None:
        self._max_bytes = max_bytes
        self.share_among(1)

    def share_among(self, tails: int) -> None:
        #: For each tail.
        self.bytes_each = min(TAIL_BYTES, self._max_bytes // max(1, tails))


class Tail:
    """A chain of batches that ends at `heard`, bounded in bytes. Not safe between threads."""

    def __init__(self, room: Room | None = None) -> None:
        #: The newest event this process knows of; None until it knows where the log ends.
        self.heard: EventId | None = None
        #: That is the end event.
        self.has_end = False
        #: The batch that ends there; None where only the log has it.
        self.newest: Batch | None = None
        self._room = room or Room()
        self._batches: deque[Batch] = deque()
        self._bytes = 0

    def add(self, batch: Batch) -> None:
        """Take a published batch; one that is already known changes nothing."""
        if self.heard is not None and batch.last <= self.heard:
            return
        if batch.prev != self.heard:
            self._clear()
        self.heard, self.has_end = batch.last, batch.has_end
        if not batch.frames:
            self._clear()
            return
        self.newest = batch
        self._batches.append(batch)
        self._bytes += batch.size
        if self._bytes > self._room.bytes_each:
            self.trim()

    def trim(self) -> None:
        """Let go of the oldest, down to its part of the room; the newest batch stays, however large."""
        while self._bytes > self._room.bytes_each and len(self._batches) > 1:
            self._bytes -= self._batches.popleft().size

    def restart(self, heard: EventId, *, has_end: bool) -> None:
        """The log is known to end at `heard`, and the tail does not lead there."""
        self._clear()
        self.heard, self.has_end = heard, has_end

    def has(self, cursor: EventId) -> bool:
        """Whether `cursor` is known to be an entry of the log."""
        return cursor == self.heard or bool(self.after(cursor))

    def after(self, cursor: EventId, max_bytes: int = CHUNK_BYTES) -> list[Batch] | None:
        """What follows `cursor`, up to about `max_bytes`: [] is nothing, None means read the log."""
        if self.heard is None:
            return None
        if cursor >= self.heard:
            return []
        if not self._batches:
            return None
        index = bisect_right(self._batches, cursor, key=_last)
        first = self._batches[index].after(cursor)
        if first is None:
            return None
        return _up_to(max_bytes, first, (self._batches[i] for i in range(index + 1, len(self._batches))))

    def _clear(self) -> None:
        self.newest = None
        self._batches.clear()
        self._bytes = 0


def _up_to(max_bytes: int, first: Batch, more: Iterable[Batch]) -> list[Batch]:
    taken, size = [first], first.size
    for batch in more:
        size += batch.size
        if size > max_bytes:
            break
        taken.append(batch)
    return taken
