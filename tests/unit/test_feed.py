"""What a process knows of one job's log, and what it reads for those who ask."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import wait_until

from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.event import END, RESULT, START, Event, EventId
from rankcast.tasks.eventlog import Page, Position, Start
from rankcast.tasks.live import Batch, encode_batch
from rankcast.tasks.state import JobState
from rankcast.web.feed import Feed
from rankcast.web.pages import Pages

PAGE_EVENTS = 3
MANY = 20


def event_id(seq: int) -> EventId:
    return EventId(1, seq) if seq else START


class Log:
    """As EventLog, of one job; counts what it is asked, and answers when `goes_on` is set."""

    def __init__(self, length: int, *, has_end: bool = False) -> None:
        kinds = [RESULT] * (length - 1) + [END if has_end else RESULT]
        self.events = [
            Event(event_id(seq), event_id(seq - 1), kind, b"%d" % seq) for seq, kind in enumerate(kinds, 1)
        ]
        self.pages: list[EventId] = []
        self.located: list[str | None] = []
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.error: Exception | None = None
        self.answer = Start(START)

    def page(self, job_id: str, after: EventId, max_bytes: int) -> Page:
        self.pages.append(after)
        assert self.goes_on.wait(30)
        if self.error is not None:
            raise self.error
        found = [event for event in self.events if event.id > after]
        return Page(found[:PAGE_EVENTS], reaches_end=len(found) < PAGE_EVENTS)

    def locate(self, job_id: str, cursor: str | None) -> Start:
        self.located.append(cursor)
        return self.answer


def feed_of(log: Log, pages: Pages | None = None) -> Feed:
    feed = Feed("job", log, pages or Pages())  # type: ignore[arg-type]
    feed.is_confirmed.set()
    return feed


def hear(feed: Feed, first: int, last: int, *, has_end: bool = False) -> None:
    events = [Event(event_id(seq), event_id(seq - 1), RESULT, b"%d" % seq) for seq in range(first, last + 1)]
    if has_end:
        events[-1] = events[-1]._replace(kind=END)
    feed.hear(encode_batch(events), time.monotonic())


def all_after(feed: Feed, cursor: EventId) -> list[int]:
    seen: list[int] = []
    while batches := feed.after(cursor):
        seen += [event.id.seq for batch in batches for event in batch.events]
        cursor = batches[-1].last
    return seen


def position(seq: int) -> Position:
    return Position(event_id(seq), None, JobState.RUNNING, None)


def meanwhile(calls: Sequence[Callable[[], object]], log: Log, act: Callable[[], None]) -> list[object]:
    """What each gives or raises, called together, with the log's answer held back until `act`."""
    log.goes_on.clear()
    with ThreadPoolExecutor(len(calls)) as pool:
        begun = [pool.submit(call) for call in calls]
        wait_until(lambda: bool(log.pages), "somebody to ask the log")
        act()
        log.goes_on.set()
        return [each.exception() or each.result() for each in begun]


def test_who_joins_later_costs_no_read() -> None:
    log = Log(8)
    feed = feed_of(log)
    for _ in range(MANY):
        assert all_after(feed, START) == list(range(1, 9))
    # The last page told that nothing follows.
    assert log.pages == [event_id(0), event_id(3), event_id(6)]
    hear(feed, 9, 10)
    assert all_after(feed, START) == list(range(1, 11))
    assert len(log.pages) == 3


def test_many_that_ask_at_once_cost_one_read() -> None:
    log = Log(2)
    feed = feed_of(log)
    asked = [lambda: all_after(feed, START)] * MANY
    assert meanwhile(asked, log, lambda: None) == [[1, 2]] * MANY
    assert log.pages == [START]


def test_what_is_heard_while_somebody_reads_follows() -> None:
    log = Log(2)
    feed = feed_of(log)
    assert (
        meanwhile([lambda: all_after(feed, START)] * 2, log, lambda: hear(feed, 3, 4)) == [[1, 2, 3, 4]] * 2
    )


def test_a_read_that_fails_fails_for_all_who_wait_for_it_and_for_nobody_after() -> None:
    log = Log(2)
    feed = feed_of(log)
    log.error = StoreUnavailable("away")
    found = meanwhile([lambda: feed.after(START)] * MANY, log, lambda: None)
    assert [type(each) for each in found] == [StoreUnavailable] * MANY
    log.error = None
    assert all_after(feed, START) == [1, 2]


def test_many_that_find_nothing_cost_one_read() -> None:
    """Where more was heard than the log has, until somebody compares the two."""
    log = Log(2)
    feed = feed_of(log)
    hear(feed, 5, 6)
    found = meanwhile([lambda: feed.after(event_id(3))] * MANY, log, lambda: None)
    assert found == [[]] * MANY
    assert log.pages == [event_id(3)]


def test_pages_of_a_history_that_redis_lost_are_not_given_out() -> None:
    """Found by the comparison with the record, or by who came with a place of it; also while it is read."""
    log = Log(8)
    feed = feed_of(log)
    assert all_after(feed, START) == list(range(1, 9))
    log.events = log.events[:4]
    feed.compare(event_id(8), position(4))
    assert (feed.rollbacks, all_after(feed, START)) == (1, [1, 2, 3, 4])
    log.events = log.events[:2]
    log.answer = Start(START, "reset")
    # Nobody here has seen that one, so it says nothing of what was seen.
    assert feed.locate("7-7").notice == "reset"
    assert all_after(feed, START) == [1, 2, 3, 4]
    assert feed.locate("0-9").notice == "reset"
    assert all_after(feed, START) == [1, 2]

    other = Log(2)
    feed = feed_of(other)
    meanwhile([lambda: feed.after(START)], other, lambda: feed.compare(event_id(2), position(1)))
    other.events = other.events[:1]
    assert all_after(feed, START) == [1]


def test_a_feed_of_the_same_job_that_was_given_up_leaves_it_no_pages() -> None:
    """What happened to the log between the two nobody here has seen."""
    log, pages = Log(2), Pages()
    assert all_after(feed_of(log, pages), START) == [1, 2]
    log.events = log.events[:1]
    assert all_after(feed_of(log, pages), START) == [1]


def test_a_place_that_is_known_is_not_asked_for() -> None:
    log = Log(2, has_end=False)
    feed = feed_of(log)
    all_after(feed, START)
    hear(feed, 3, 5)
    for cursor in (None, "0", "1-2", "1-3", "1-5"):
        assert feed.locate(cursor) == Start(EventId.parse(cursor) if cursor not in (None, "0") else START)
    assert log.located == []
    hear(feed, 6, 6, has_end=True)
    assert feed.locate("1-6") == Start(event_id(6), is_complete=True)
    assert feed.locate("1-5") == Start(event_id(5))
    assert log.located == []


def test_the_end_is_known_from_a_page_too() -> None:
    log = Log(2, has_end=True)
    feed = feed_of(log)
    all_after(feed, START)
    assert feed.locate("1-2").is_complete
    assert not feed.locate(None).is_complete
    assert log.located == []


@pytest.mark.parametrize("cursor", ["garbage", "1-9", "2-1", "0-7"])
def test_a_place_that_is_not_known_is(cursor: str) -> None:
    log = Log(2)
    feed = feed_of(log)
    all_after(feed, START)
    hear(feed, 3, 5)
    feed.locate(cursor)
    assert log.located == [cursor]


def test_nothing_is_known_while_the_subscription_is_away_or_the_job_is_gone() -> None:
    log = Log(2)
    feed = feed_of(log)
    all_after(feed, START)
    feed.doubt()
    feed.locate(None)
    feed.is_confirmed.set()
    feed.compare(event_id(2), None)
    feed.locate("1-2")
    assert log.located == [None, "1-2"]


def test_messages_of_a_subscription_given_up_are_not_taken_for_the_newest() -> None:
    """Others after them may have been missed, so they say nothing about where the log ends."""
    log = Log(6)
    feed = feed_of(log)
    feed.is_confirmed.clear()
    hear(feed, 2, 2)
    feed.is_confirmed.set()
    assert feed.after(event_id(2))[0].last == event_id(5)
    hear(feed, 5, 6)
    log.pages.clear()
    assert feed.after(event_id(5))[0].last == event_id(6)
    assert feed.after(event_id(6)) == []
    assert log.pages == []


def test_pages_are_bounded() -> None:
    """The one that nobody asked for longest goes first."""
    made = [Batch.of([Event(event_id(1), START, RESULT, b"x" * 1000)]) for _ in range(3)]
    pages = Pages(max_bytes=2 * made[0].size)
    for name, page in zip("abc", made, strict=True):
        pages.keep(name, page)
        pages.get("a")
    assert [pages.get(name) is not None for name in "abc"] == [True, False, True]
    for _ in range(10):
        pages.keep("a", made[0])
    assert pages.get("c") is made[2]
