"""Step 6. A job's event log: appended by one rank 0, read by everybody.

The log is a Redis Stream whose entry ids are the event ids. An entry has `d` (data, one line of
JSON), `k` (kind, left out for a user's result) and `p` (the id before it, on the first event of a
fence; within a fence ids are dense, so it is computed). Every append also goes out on the job's
live channel (live.py).

Old events are trimmed at marks, so that count and bytes stay bounded: then a page does not begin
after the cursor it was asked for, and the reader tells its viewer of the gap. Event `0-1` outlives
every trim, in the record.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

import redis

from rankcast.tasks.connect import Scripts, at_the_edge
from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.event import END, RESET, RESULT, START, STATE, Event, EventId, gap, reset
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import confirm_gone, not_found, refuse

#: A batch ends at so many events, or before the event that would take it over so many bytes of
#: data: one PUBLISH of 40 MB was seen to cut off every subscriber.
BATCH_EVENTS = 256
BATCH_BYTES = 256 * 1024

FIRST = EventId(0, 1)
#: A page of the log is read in growing steps, because only the events tell how large they are.
PAGE_BYTES = 1024 * 1024
FIRST_STEP = 32
#: A mark closes at so much; the log is trimmed by whole marks. Less for a log with small bounds.
MARK_BYTES, MARK_EVENTS = 256 * 1024, 1024
MARKS_PER_LOG = 16


class Appended(NamedTuple):
    """The log now ends at seq `last` of the claim's fence."""

    last: int
    is_cancel_requested: bool


class Position(NamedTuple):
    """How far a job's log goes. `end_id` once it has its end; `trimmed`: newest event trimmed away."""

    last: EventId
    end_id: EventId | None
    state: JobState
    trimmed: EventId | None


class Page(NamedTuple):
    """Some events in order. `reaches_end`: nothing followed them when they were read."""

    events: list[Event]
    reaches_end: bool


class Start(NamedTuple):
    """Where a viewer's replay begins, and what to tell it first.

    `gap` is (from, to): what came after `from`, up to and with `to`, was trimmed away.
    `is_complete`: the viewer has seen the end event.
    """

    after: EventId
    notice: Literal["gap", "reset"] | None = None
    gap: tuple[EventId, EventId] | None = None
    is_complete: bool = False

    def told(self) -> Event | None:
        """The event that tells the viewer of it; None if its cursor was simply an entry of the log."""
        if self.notice == RESET:
            return reset(self.after)
        return None if self.gap is None else gap(*self.gap)


class EventLog:
    """The logs of all jobs. Safe to share between threads; StoreUnavailable when Redis does not answer."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._scripts = Scripts(client)
        self._bounds = (
            settings.max_log_bytes,
            settings.max_log_events,
            max(1, min(MARK_BYTES, settings.max_log_bytes // MARKS_PER_LOG)),
            max(1, min(MARK_EVENTS, settings.max_log_events // MARKS_PER_LOG)),
        )

    def append(
        self,
        *,
        job_id: str,
        fence: int,
        token: str,
        first: int,
        events: Sequence[tuple[str, bytes]],
        progress: bytes | None = None,
    ) -> Appended:
        """Write `events`, (kind, data) each, as seqs `first`, `first + 1`, … and publish them.

        Those that the log has are skipped, so a batch may be sent again. `progress` is the newest
        progress as JSON text. ValueError for a batch that is too large. Behind when `first` is
        more than one after the log's last; StaleAttempt unless fence and token are those of the
        job's claim; UnknownJob when it is gone; StoreUnavailable also for a claim that Redis lost in
        a restart, until its worker has made it again. Nothing is written then.
        """
        _check(events)
        flat = [part for event in events for part in event]
        reply = self._scripts.run(
            "append", job_id, fence, token, first, progress or b"", *self._bounds, *flat
        )
        if reply[0] == b"FORGOTTEN":
            raise StoreUnavailable(f"Redis lost the claim of job {job_id}; its worker makes it again")
        if reply[0] != b"OK":
            refuse(reply, job_id)
        return Appended(reply[1], bool(reply[2]))

    def look(self) -> None:
        """Append again what a restart of Redis took from the events of the last seconds, if it did."""
        self._scripts.look()

    def read(self, job_id: str, after: EventId, limit: int = 512, max_bytes: int = PAGE_BYTES) -> list[Event]:
        """The events of `page`."""
        return self.page(job_id, after, limit, max_bytes).events

    def page(self, job_id: str, after: EventId, limit: int = 512, max_bytes: int = PAGE_BYTES) -> Page:
        """A page of events after `after`: at most `limit`, and about `max_bytes` unless one event is
        larger. Empty where the log ends, or is gone.

        A page has no holes in itself. If its first event's `prev` is not `after`, what lies between
        was trimmed.
        """
        page: list[Event] = []
        size, count = 0, min(limit, FIRST_STEP)
        while True:
            found = self._entries(job_id, page[-1].id if page else after, count)
            for event in found:
                size += len(event.data)
                # Between two steps somebody may have trimmed the log.
                if page and (size > max_bytes or event.prev != page[-1].id):
                    return Page(page, reaches_end=False)
                page.append(event)
            fitting = (max_bytes - size) * len(page) // max(size, 1)
            if len(found) < count or len(page) >= limit or fitting < 1:
                return Page(page, reaches_end=len(found) < count)
            count = min(limit - len(page), 4 * count, fitting)

    def _entries(self, job_id: str, after: EventId, count: int) -> list[Event]:
        """The next `count` entries after `after`; before all of them 0-1, also where a trim took it."""
        keys = JobKeys(job_id)
        with at_the_edge():
            pipe = self._redis.pipeline(transaction=True)
            pipe.xrange(keys.events, min=f"({after}", max="+", count=count)
            if after < FIRST:
                pipe.hget(keys.record, "first")
            rows, *first = pipe.execute()
        found = [_event(EventId.parse(entry_id), fields) for entry_id, fields in rows]
        if first and first[0] is not None and (not found or found[0].id != FIRST):
            found.insert(0, Event(FIRST, START, STATE, first[0]))
        return found[:count]

    def position(self, job_id: str) -> Position:
        """How far the log goes. UnknownJob."""
        found = self.positions([job_id])[0]
        if found is None:
            not_found(self._scripts, job_id)
        return found

    def positions(self, job_ids: Sequence[str]) -> list[Position | None]:
        """How far each log goes, in one round trip; None for a job that is not there. See confirm_gone."""
        with at_the_edge():
            pipe = self._redis.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hmget(JobKeys(job_id).record, _POSITION)
            return [_position(row) for row in pipe.execute()]

    def confirm_gone(self, job_ids: Sequence[str]) -> None:
        """Of jobs that were not found: StoreUnavailable while a restarted Redis may be told of them yet."""
        confirm_gone(self._scripts, job_ids)

    def locate(self, job_id: str, cursor: str | None) -> Start:
        """Where to begin for a viewer that comes with `cursor`. UnknownJob.

        Valid are the start (nothing, `0`, `0-0`), an entry of the log, and what lies below the trim
        mark (then with notice "gap"). Anything else, garbage and the future included, is of a
        history that Redis lost: notice "reset", and the replay begins at the start.
        """
        wanted = parse_cursor(cursor)
        keys = JobKeys(job_id)
        with at_the_edge():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hmget(keys.record, _POSITION)
            pipe.xrange(keys.events, min=str(wanted or START), max=str(wanted or START))
            row, entry = pipe.execute()
        position = _position(row)
        if position is None:
            not_found(self._scripts, job_id)
        return _start(wanted, position, is_entry=bool(entry))


_POSITION = ("last", "end_id", "state", "trimmed")


def _check(events: Sequence[tuple[str, bytes]]) -> None:
    size = sum(len(data) for _, data in events)
    if len(events) > BATCH_EVENTS or (len(events) > 1 and size > BATCH_BYTES):
        raise ValueError(f"a batch of {len(events)} events with {size} bytes is too large; send it in parts")
    if any(kind == END for kind, _ in events):
        raise ValueError("the end event is written by JobStore.finish")


def _event(event_id: EventId, fields: dict[bytes, bytes]) -> Event:
    prev = fields.get(b"p")
    return Event(
        id=event_id,
        prev=EventId(event_id.fence, event_id.seq - 1) if prev is None else EventId.parse(prev),
        kind=fields.get(b"k", RESULT.encode()).decode(),
        data=fields[b"d"],
    )


def _position(row: Sequence[Any]) -> Position | None:
    last, end_id, state, trimmed = cast(Sequence[bytes | None], row)
    if last is None or state is None:
        return None
    return Position(
        last=EventId.parse(last),
        end_id=None if end_id is None else EventId.parse(end_id),
        state=JobState(state.decode()),
        trimmed=None if trimmed is None else EventId.parse(trimmed),
    )


def parse_cursor(text: str | None) -> EventId | None:
    """A viewer's cursor; START for the ways to say "from the start", None for garbage."""
    if text is None or text in ("", "0"):
        return START
    try:
        return EventId.parse(text)
    except ValueError:
        return None


def _start(cursor: EventId | None, position: Position, *, is_entry: bool) -> Start:
    if cursor == START:
        return Start(START)
    if cursor is None:
        return Start(START, "reset")
    if cursor == position.end_id:
        return Start(cursor, is_complete=True)
    if position.trimmed is not None and cursor < position.trimmed:
        return Start(position.trimmed, "gap", (cursor, position.trimmed))
    if is_entry or cursor == position.trimmed:
        return Start(cursor)
    return Start(START, "reset")
