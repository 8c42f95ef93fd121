"""Step 7. Streams: what one viewer is sent, from its cursor to the end of the job.

A viewer joins in this order: take a place at the feed, wait until Redis has confirmed the
subscription, read the log from the cursor on, and follow the feed from where the log ended. What is
published meanwhile waits in the feed's tail. Whatever goes wrong afterwards has one cure, because
the cursor is always right: read the log from the cursor.

A stream goes on while Redis is away, with keepalives, and tells in a `gap` or `reset` event when
what follows does not follow what was sent before.
"""

import logging
import math
import random
import time
from collections.abc import Iterator

from rankcast.tasks.errors import StoreUnavailable, UnknownJob
from rankcast.tasks.event import END, RESET, gap, reset
from rankcast.tasks.eventlog import EventLog, Start
from rankcast.web import sse
from rankcast.web.feed import CHUNK_BYTES, Batch
from rankcast.web.hub import Viewer

#: What a client waits before it comes back after a break.
RETRY_MS = 1000
#: Viewers that are sent elsewhere come back spread over this time.
SPREAD_MS = 3000
#: Streams that began together, as after a deploy, do not end together: each lives this share longer
#: or shorter.
LIFETIME_JITTER = 0.2
#: Most that one write has: the server copies it, and while the client does not read the copy stays.
WRITE_BYTES = 16 * 1024

log = logging.getLogger(__name__)


class Reader:
    """Iterate: lists of batches in log order, from `start` to the end event; None is a keepalive due.

    Raises UnknownJob when the job's record goes away. Ends early after about `lifetime_s`, and if
    `ends_with_process` and this process is about to end.
    """

    def __init__(
        self,
        *,
        viewer: Viewer,
        event_log: EventLog,
        start: Start,
        keepalive_s: float,
        lifetime_s: float = math.inf,
        ends_with_process: bool = True,
    ) -> None:
        self._viewer = viewer
        self._feed = viewer.feed
        self._log = event_log
        self._cursor = start.after
        self._notice = start.told()
        self._rollbacks = self._feed.rollbacks
        self._keepalive_s = keepalive_s
        self._ends_with_process = ends_with_process
        self._leaves_at = time.monotonic() + lifetime_s * random.uniform(
            1 - LIFETIME_JITTER, 1 + LIFETIME_JITTER
        )
        self._has_end = False

    def __iter__(self) -> Iterator[list[Batch] | None]:
        sent_at = time.monotonic()
        while not (self._has_end or self.is_leaving):
            self._viewer.wake.clear()
            if batches := self._next():
                yield batches
                sent_at = time.monotonic()
            elif not self._viewer.wake.wait(self._patience_s(sent_at)) and not self.is_leaving:
                yield None
                sent_at = time.monotonic()

    @property
    def is_leaving(self) -> bool:
        """The viewer is to come back, here or elsewhere: its time here is over, or this process's."""
        if self._ends_with_process and self._viewer.is_closing:
            return True
        return time.monotonic() >= self._leaves_at

    def _patience_s(self, sent_at: float) -> float:
        """How long to wait for events: until a keepalive is due, or the stream's time is over."""
        return max(0.0, min(sent_at + self._keepalive_s, self._leaves_at) - time.monotonic())

    def _next(self) -> list[Batch]:
        """What to send now; nothing if nothing follows, or while Redis is away."""
        if self._feed.is_gone:
            raise UnknownJob(self._feed.job_id)
        try:
            if self._rollbacks != self._feed.rollbacks:
                self._relocate()
            if self._notice is not None:
                notice, self._notice = self._notice, None
                return self._take([Batch([notice])])
            batches = self._feed.after(self._cursor)
            return self._take(self._from_log() if batches is None else batches)
        except StoreUnavailable as error:
            # The hub notices as well, and wakes this viewer when Redis is back.
            log.info("a stream waits for Redis: %s", error)
            return []

    def _take(self, batches: list[Batch]) -> list[Batch]:
        if batches:
            self._cursor, self._has_end = batches[-1].last, batches[-1].has_end
        return batches

    def _relocate(self) -> None:
        """The log is shorter than it was seen to be: ask where this cursor stands now."""
        rollbacks = self._feed.rollbacks
        self._notice = self._log.locate(self._feed.job_id, str(self._cursor)).told()
        self._rollbacks = rollbacks

    def _from_log(self) -> list[Batch]:
        events = self._log.read(self._feed.job_id, self._cursor, max_bytes=CHUNK_BYTES)
        if not events:
            self._feed.reached(self._cursor, is_log_end=True)
            return []
        page = Batch(events)
        self._feed.reached(page.last, is_log_end=False)
        if page.prev == self._cursor:
            return [page]
        return self._past_a_hole(page)

    def _past_a_hole(self, page: Batch) -> list[Batch]:
        """The page does not follow the cursor: the log was trimmed, or Redis lost its end."""
        start = self._log.locate(self._feed.job_id, str(self._cursor))
        if start.notice == RESET:
            return [Batch([reset(start.after)])]
        return [Batch([gap(self._cursor, page.prev)]), page]


def chunks(reader: Reader, viewer: Viewer) -> Iterator[bytes]:
    """The body of a stream with ids. Each chunk is one write; the first is due at once, with the head."""
    yield sse.retry(RETRY_MS)
    try:
        for batches in reader:
            if batches is None:
                yield sse.KEEPALIVE
            else:
                yield from _writes(batches)
    except UnknownJob:
        yield sse.frame_without_id(RESET, b'{"message":"Redis no longer knows this job"}')
        yield sse.frame_without_id(END, b'{"state":"lost"}')
    finally:
        viewer.leave()
    if reader.is_leaving:
        yield sse.retry(random.randint(1, SPREAD_MS))


def _writes(batches: list[Batch]) -> Iterator[bytes]:
    """The frames of all batches, in parts of WRITE_BYTES at most.

    Empties the list: a write may wait a long time for its client, and of a batch that is not in the
    tail, or not any more, nothing but the frames is needed.
    """
    frames = b"".join([batch.frames for batch in batches])
    batches.clear()
    for start in range(0, len(frames), WRITE_BYTES):
        yield frames[start : start + WRITE_BYTES]
