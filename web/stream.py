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
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from rankcast.tasks.errors import StoreUnavailable, UnknownJob
from rankcast.tasks.event import END, RESET, EventId, gap, reset
from rankcast.tasks.eventlog import Start
from rankcast.tasks.live import Batch
from rankcast.web import sse
from rankcast.web.hub import Viewer
from rankcast.web.keyring import ApiKey
from rankcast.web.services import Services

#: What a client waits before it comes back after a break.
RETRY_MS = 1000
#: Viewers that are sent elsewhere come back spread over this time.
SPREAD_MS = 3000
#: Streams that began together, as after a deploy, do not end together: each lives this share longer
#: or shorter.
LIFETIME_JITTER = 0.2
#: Most that one write has: the server copies it, and while the client does not read the copy stays.
WRITE_BYTES = 8 * 1024

#: In the environment of a request whose answer is a stream that can be resumed: its `Stream`, for a server
#: that can do better than to iterate.
STREAM = "rankcast.stream"

#: A cursor, and the number of times that the log was found to be shorter than it had been.
Place = tuple[EventId, int]

log = logging.getLogger(__name__)


class Reader:
    """Iterate: lists of batches in log order, from `start` to the end event; None is a keepalive due.

    Raises UnknownJob when the job's record goes away. Ends early after about `lifetime_s`, and when this
    process is about to end: with `ends_with_process` at once, else at the last call.
    """

    def __init__(
        self,
        *,
        viewer: Viewer,
        start: Start,
        keepalive_s: float,
        lifetime_s: float = math.inf,
        ends_with_process: bool = True,
    ) -> None:
        self._viewer = viewer
        self._feed = viewer.feed
        self._cursor = start.after
        self._notice = start.told()
        self._rollbacks = self._feed.rollbacks
        self._keepalive_s = keepalive_s
        self._ends_with_process = ends_with_process
        self._leaves_at = time.monotonic() + lifetime_s * random.uniform(
            1 - LIFETIME_JITTER, 1 + LIFETIME_JITTER
        )
        self._has_end = False

    def again(self, place: Place) -> "Reader":
        """Another for the same job, at a place where this one or one like it has stood, for good."""
        reader = Reader(
            viewer=self._viewer,
            start=Start(place[0]),
            keepalive_s=self._keepalive_s,
            ends_with_process=self._ends_with_process,
        )
        reader._rollbacks = place[1]
        return reader

    def __iter__(self) -> Iterator[list[Batch] | None]:
        sent_at, wake = time.monotonic(), threading.Event()
        self._viewer.notify = wake.set
        while not self.is_over:
            wake.clear()
            if batches := self._next():
                yield batches
                sent_at = time.monotonic()
                continue
            if not wake.wait(self._patience_s(sent_at)) and not self.is_leaving:
                yield None
                sent_at = time.monotonic()

    def pending(self) -> Iterator[list[Batch]]:
        """The same without waiting: what there is to be sent now."""
        while not self.is_over and (batches := self._next()):
            yield batches

    def at_hand(self) -> list[Batch] | None:
        """What there is to be sent now, of what was heard; None where more is needed than a look there. That
        its time is over, or this process's, does not matter yet."""
        feed = self._feed
        if self._notice is not None or self._rollbacks != feed.rollbacks or feed.is_gone:
            return None
        batches = feed.at_hand(self._cursor)
        return batches and self._take(batches)

    @property
    def leaves_in_s(self) -> float:
        return self._leaves_at - time.monotonic()

    @property
    def place(self) -> Place:
        """Where it stands: who stands at the same place is to be sent the same from here on."""
        return self._cursor, self._rollbacks

    @property
    def is_over(self) -> bool:
        return self._has_end or self.is_leaving

    @property
    def is_leaving(self) -> bool:
        """The viewer is to come back, here or elsewhere: its time here is over, or this process's."""
        if self._viewer.is_last_call or (self._ends_with_process and self._viewer.is_closing):
            return True
        return time.monotonic() >= self._leaves_at

    def _patience_s(self, sent_at: float) -> float:
        """How long to wait for events: until a keepalive is due, or the stream's time is over."""
        return max(0.0, min(sent_at + self._keepalive_s, self._leaves_at) - time.monotonic())

    def _next(self) -> list[Batch]:
        """What to send now; nothing if nothing follows, or while Redis is away."""
        try:
            if self._feed.is_gone:
                raise UnknownJob(self._feed.job_id)
            if self._rollbacks != self._feed.rollbacks:
                self._relocate()
            if self._notice is not None:
                notice, self._notice = self._notice, None
                return self._take([Batch.of([notice])])
            batches = self._feed.after(self._cursor)
            if batches and batches[0].prev != self._cursor:
                batches = self._past_a_hole(batches)
            return self._take(batches)
        except UnknownJob:
            self._has_end = True
            raise
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
        self._notice = self._feed.locate(str(self._cursor)).told()
        self._rollbacks = rollbacks

    def _past_a_hole(self, batches: list[Batch]) -> list[Batch]:
        """They do not follow the cursor: the log was trimmed, or Redis lost its end."""
        start = self._feed.locate(str(self._cursor))
        if start.notice == RESET:
            return [Batch.of([reset(start.after)])]
        return [Batch.of([gap(self._cursor, batches[0].prev)]), *batches]


class Stream(NamedTuple):
    """One viewer's stream, however it is written to its client."""

    reader: Reader
    viewer: Viewer
    #: Gives back its place among the streams of this process.
    release: Callable[[], None]
    #: What let its viewer in; None where nobody is asked for one.
    key: ApiKey | None = None

    def leave(self) -> None:
        """May be called more than once."""
        self.viewer.leave()
        self.release()


def open_stream(to: Services, job_id: str, start: Start, key: ApiKey | None) -> Stream:
    """For a viewer who may see the job. TooManyStreams; StoreUnavailable if it cannot be followed."""
    release = to.places.take("" if key is None else key.id)
    try:
        viewer = to.hub.follow(job_id)
    except BaseException:
        release()
        raise
    return Stream(reader_for(to, viewer, start), viewer, release, key)


def reader_for(to: Services, viewer: Viewer, start: Start) -> Reader:
    """That of a viewer whose stream begins at `start`."""
    keepalive_s, lifetime_s = to.settings.keepalive_s, to.settings.stream_max_s
    return Reader(viewer=viewer, start=start, keepalive_s=keepalive_s, lifetime_s=lifetime_s)


def chunks(stream: Stream) -> Iterator[bytes]:
    """The body of a stream with ids. Each chunk is one write; the first is due at once, with the head."""
    yield sse.retry(RETRY_MS)
    for part in parts(stream.reader):
        yield from writes(part)
    if stream.reader.is_leaving:
        yield farewell()


def parts(reader: Iterable[list[Batch] | None]) -> Iterator[bytes]:
    """What is to be sent, each time that there is something: the frames of all batches in one."""
    try:
        for batches in reader:
            if batches is None:
                yield sse.KEEPALIVE
                continue
            part = b"".join([batch.frames for batch in batches])
            # A write may wait a long time for its client, and of a batch that is not in the tail, or not
            # any more, nothing but the frames is needed.
            batches.clear()
            yield part
    except UnknownJob:
        told = sse.frame_without_id(RESET, b'{"message":"Redis no longer knows this job"}')
        yield told + sse.frame_without_id(END, b'{"state":"lost"}')


def writes(part: bytes) -> Iterator[bytes]:
    """The same bytes, WRITE_BYTES at most at a time."""
    for start in range(0, len(part), WRITE_BYTES):
        yield part[start : start + WRITE_BYTES]


def farewell() -> bytes:
    """What a viewer is told that is to come back elsewhere: when."""
    return sse.retry(random.randint(1, SPREAD_MS))
