"""Step 7, what this process knows of one job's log: what it heard, and what its viewers read.

What is published is in the tail, what came before in pages, and a page that nobody has read yet is
read once for all who ask for it meanwhile.
"""

import itertools
import threading
import time
from typing import TYPE_CHECKING

from gevent.monkey import get_original

from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.event import RESET, START, EventId
from rankcast.tasks.eventlog import EventLog, Page, Position, Start, parse_cursor
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.live import Batch, decode_batch
from rankcast.web.pages import Pages
from rankcast.web.tail import CHUNK_BYTES, Room, Tail

if TYPE_CHECKING:
    from rankcast.web.hub import Viewer

#: Of the system, also where gevent has put its own in its place: that is Python, an eighth of what an event
#: costs. Who holds it waits for nothing, so no greenlet can meet another that does.
_Lock = get_original("threading", "Lock")
#: Tells the pages of one history of a log from those of another: also of a job that was followed before.
_histories = itertools.count()


def channel_of(job_id: str) -> bytes:
    return JobKeys(job_id).live.encode()


class _Reading:
    """A page of some history that somebody reads from the log. `found` or `error` once `is_over`; neither
    where who read it was ended."""

    def __init__(self, history: int) -> None:
        self.history = history
        self.is_over = threading.Event()
        self.found: list[Batch] | None = None
        self.error: Exception | None = None


class Feed:
    """One followed job: its tail, its pages, and the viewers to wake when there is more to see."""

    def __init__(self, job_id: str, event_log: EventLog, pages: Pages, room: Room | None = None) -> None:
        self.job_id = job_id
        self.channel = channel_of(job_id)
        #: Redis has confirmed the subscription: from here on nothing published is missed.
        self.is_confirmed = threading.Event()
        #: The job's record is gone: it expired, or Redis lost everything.
        self.is_gone = False
        #: Counts the times that the log turned out shorter than what was seen of it. A viewer that
        #: has not yet acted on the newest count asks the log whether its cursor still stands.
        self.rollbacks = 0
        #: The subscription was interrupted since the last comparison with the record.
        self.is_suspect = False
        self.viewers: set[Viewer] = set()
        self._log = event_log
        self._pages = pages
        self._history = next(_histories)
        self._reading: dict[EventId, _Reading] = {}
        self._lock = _Lock()
        self._tail = Tail(room)
        self._furthest = START
        self._heard_at = time.monotonic()

    def hear(self, message: bytes, now: float) -> None:
        """Take a message of the live channel that came `now`; who brings it wakes the viewers then. One from
        before the confirmation is ignored: it belongs to a subscription that has been given up, and others
        like it may be missing. ValueError for anything else.
        """
        if not self.is_confirmed.is_set():
            return
        batch = decode_batch(message)
        with self._lock:
            self._heard_at = now
            if batch.last > self._furthest:
                self._furthest = batch.last
            self._tail.add(batch)

    def locate(self, cursor: str | None) -> Start:
        """As EventLog.locate, from memory where that is sure of it. UnknownJob, StoreUnavailable."""
        wanted = parse_cursor(cursor)
        if wanted is not None and (known := self._known_start(wanted)) is not None:
            return known
        start = self._log.locate(self.job_id, cursor)
        if start.notice == RESET and wanted is not None and wanted <= self._furthest:
            # What was seen here is no entry any more. Of any other cursor its client alone knows.
            self._forget_pages()
        return start

    def after(self, cursor: EventId) -> list[Batch]:
        """What follows `cursor`, at least some of it; [] while nothing does. StoreUnavailable.

        Where the log was trimmed, or Redis lost its end, it begins elsewhere: see the `prev` of the first.
        """
        while True:
            with self._lock:
                batches = self._known_after(cursor)
                if batches is not None:
                    return batches
                other = self._reading.get(cursor)
                if other is None:
                    mine = self._reading[cursor] = _Reading(self._history)
            if other is None:
                return self._read(cursor, mine)
            other.is_over.wait()
            if isinstance(other.error, StoreUnavailable):
                raise StoreUnavailable(str(other.error)) from other.error
            if other.found == [] and other.history == self._history:
                return []

    @property
    def heard(self) -> EventId | None:
        """The newest event known of here; None until it is known where the log ends."""
        return self._tail.heard

    def at_hand(self, cursor: EventId) -> list[Batch] | None:
        """As `after`, of what was heard; None where that is not known."""
        newest = self._tail.newest
        if newest is not None and newest.prev == cursor:
            return [newest]
        with self._lock:
            return self._tail.after(cursor)

    def doubt(self) -> None:
        """The subscription was interrupted: compare with the record at the next chance."""
        self.is_confirmed.clear()
        self.is_suspect = True

    def furthest_if_due(self, silent_since: float) -> EventId | None:
        """How far anybody here has seen the log, if this feed is to be compared with the record."""
        if not self.is_confirmed.is_set() or not (self.is_suspect or self._heard_at <= silent_since):
            return None
        return self._furthest

    def compare(self, furthest: EventId, position: Position | None) -> None:
        """Act on a record read after `furthest` had been seen here; None: the job is gone, for sure."""
        with self._lock:
            is_suspect, self.is_suspect = self.is_suspect, False
            self._heard_at = time.monotonic()
            self._tail.trim()
            if position is None:
                self.is_gone = True
            elif position.last < furthest:
                self.rollbacks += 1
                self._furthest = position.last
                self._restart(position)
                self._forget_pages()
            elif self._tail.heard is None or position.last > self._tail.heard:
                self._restart(position)
            elif not is_suspect:
                return
        self.wake()

    def wake(self) -> None:
        for viewer in tuple(self.viewers):
            viewer.notify()

    def _known_start(self, cursor: EventId) -> Start | None:
        with self._lock:
            is_sure = self.is_confirmed.is_set() and not self.is_gone
            if not is_sure or not (cursor == START or self._tail.has(cursor)):
                return None
            return Start(cursor, is_complete=self._tail.has_end and cursor == self._tail.heard)

    def _known_after(self, cursor: EventId) -> list[Batch] | None:
        """What of the log after `cursor` is in memory; None if that must be read."""
        batches = self._tail.after(cursor)
        if batches is None and (page := self._pages.get((self._history, cursor))) is not None:
            return [page]
        return batches

    def _read(self, cursor: EventId, reading: _Reading) -> list[Batch]:
        try:
            page = self._log.page(self.job_id, cursor, max_bytes=CHUNK_BYTES)
            with self._lock:
                reading.found = self._take(cursor, page, reading.history)
            # Whoever gets it may empty it.
            return list(reading.found)
        except Exception as error:
            reading.error = error
            raise
        finally:
            with self._lock:
                del self._reading[cursor]
            reading.is_over.set()

    def _take(self, cursor: EventId, found: Page, history: int) -> list[Batch]:
        """What was read, for whoever asks next. With the lock held."""
        page = Batch.of(found.events) if found.events else None
        last = cursor if page is None else page.last
        self._furthest = max(self._furthest, last)
        if found.reaches_end and self._tail.heard is None:
            self._tail.restart(last, has_end=page is not None and page.has_end)
        if page is None:
            return []
        self._pages.keep((history, cursor), page)
        return [page]

    def _restart(self, position: Position) -> None:
        self._tail.restart(position.last, has_end=position.end_id == position.last)

    def _forget_pages(self) -> None:
        """Redis lost events of the log; a page may have them."""
        self._history = next(_histories)
