"""What the event log promises, on a real server and on fakeredis."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import redis as redis_py
from jobs import (
    FAILURE,
    SUCCESS,
    Memory,
    append,
    ids,
    let_lease_run_out,
    running,
    starting,
    submit,
)

from rankcast.tasks.errors import Behind, StaleAttempt, StoreUnavailable
from rankcast.tasks.event import START, EventId
from rankcast.tasks.eventlog import BATCH_BYTES, BATCH_EVENTS, PAGE_BYTES, Appended, EventLog, Start
from rankcast.tasks.job import Claim
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.live import MAX_PUBLISHED, encode_batch
from rankcast.tasks.state import JobState


@pytest.fixture
def redis(redis_or_fake: redis_py.Redis) -> redis_py.Redis:
    return redis_or_fake


@pytest.fixture
def small_log(redis, settings) -> EventLog:
    """A log of at most 64 events or 6400 bytes, cut in steps of 4 events or 400 bytes."""
    return EventLog(redis, replace(settings, max_log_events=64, max_log_bytes=6400))


def fill(log: EventLog, claim: Claim, count: int, data: bytes = b"1") -> None:
    """`count` events from seq 2, in batches of 10."""
    for first in range(2, count + 2, 10):
        append(log, claim, first, *[data] * min(10, count + 2 - first))


# Append


def test_events_are_read_back_as_they_were_told(store, event_log):
    """Kind, data byte for byte, and the id before each."""
    claim = running(store)
    events = [("state", b'{"state":"running"}'), ("", '"ä\\n\\t"'.encode()), ("preview", b"[1, 2]")]
    reply = event_log.append(
        job_id=claim.job_id, fence=claim.fence, token=claim.token, first=2, events=events
    )
    assert reply == Appended(last=4, is_cancel_requested=False)
    read = event_log.read(claim.job_id, EventId(claim.fence, 1))
    assert [(event.kind, event.data) for event in read] == events
    assert [event.id for event in read] == [EventId(claim.fence, seq) for seq in (2, 3, 4)]
    assert [event.prev for event in read] == [EventId(claim.fence, seq) for seq in (1, 2, 3)]


def test_events_that_the_log_has_are_skipped(store, event_log, hear):
    """A batch may be sent again: whole, or with more behind it."""
    claim = running(store)
    append(event_log, claim, 2, "2", "3")
    ear = hear(JobKeys(claim.job_id).live)
    assert append(event_log, claim, 2, '"other"', '"other"').last == 3
    assert ear.messages() == []
    assert append(event_log, claim, 3, '"other"', "4").last == 4
    assert [data for _, _, data in ear.events()] == [b"4"]
    assert [event.data for event in event_log.read(claim.job_id, START)[2:]] == [b"2", b"3", b"4"]


def test_a_batch_that_would_leave_a_hole_is_refused(store, event_log):
    """The answer says from where to send again."""
    claim = running(store)
    with pytest.raises(Behind) as behind:
        append(event_log, claim, 3, "3")
    assert behind.value.last == 1
    assert len(ids(event_log, claim.job_id)) == 2


def test_a_hole_after_a_lost_tail_is_found(redis, store, event_log):
    """Redis forgot 3-2; a jump in ids is nothing that XADD would refuse."""
    claim = running(store)
    memory = Memory(redis)
    append(event_log, claim, 2, "2")
    memory.come_back()
    with pytest.raises(Behind) as behind:
        append(event_log, claim, 3, "3")
    assert behind.value.last == 1
    assert append(event_log, claim, 2, "2", "3").last == 3


def test_an_append_tells_of_a_cancel_and_is_written(store, event_log):
    """The job goes on until it stops."""
    claim = running(store)
    store.cancel(claim.job_id)
    assert append(event_log, claim, 2, "1") == Appended(last=2, is_cancel_requested=True)


def test_the_newest_progress_stands_in_the_record(store, event_log):
    """Asked for by those who do not follow the stream."""
    claim = running(store)
    for first, progress in ((2, b"0.25"), (3, None), (4, b'{"step":2}')):
        event_log.append(
            job_id=claim.job_id,
            fence=claim.fence,
            token=claim.token,
            first=first,
            events=[("", b"1")],
            progress=progress,
        )
    assert store.record(claim.job_id).progress == {"step": 2}


def test_only_a_batch_within_bounds_is_sent(store, event_log):
    """One PUBLISH must not cut off the subscribers; one event alone may be as large as it is."""
    claim = running(store)
    for events in ([b"1"] * (BATCH_EVENTS + 1), [b"1" * BATCH_BYTES, b"1"]):
        with pytest.raises(ValueError, match="too large"):
            append(event_log, claim, 2, *events)
    append(event_log, claim, 2, *[b"1"] * BATCH_EVENTS)
    append(event_log, claim, 2 + BATCH_EVENTS, b"1" * (BATCH_BYTES + 1))
    with pytest.raises(ValueError, match="finish"):
        event_log.append(
            job_id=claim.job_id, fence=claim.fence, token=claim.token, first=1, events=[("end", b"{}")]
        )


# Who may write


def test_an_event_makes_up_for_a_start_that_a_restart_lost(redis, store, event_log):
    """Rank 0 may find Redis back before its worker does: no event without a group that was ready."""
    claim = starting(store)
    memory = Memory(redis)
    store.start(claim)
    memory.come_back()
    append(event_log, claim, 2, "1")
    record = store.record(claim.job_id)
    assert (record.state, record.started_ms is None) == (JobState.RUNNING, False)
    assert store.start(claim) is False


def test_an_event_of_a_claim_that_a_restart_lost_waits_for_its_worker(redis, store, event_log):
    """A fence larger than the record's is no stale one: the claim is made again, or taken by another."""
    job_id = submit(store)
    memory = Memory(redis)
    claim = running(store, job_id)
    memory.come_back()
    with pytest.raises(StoreUnavailable, match="lost the claim"):
        append(event_log, claim, 2, "1")
    assert ids(event_log, job_id) == ["0-1"]
    store.cancel(job_id)
    with pytest.raises(StaleAttempt):
        append(event_log, claim, 2, "1")


def test_a_thawed_rank_writes_nothing_after_the_end_of_its_own_attempt(store, event_log):
    """The fence is right, and still: neither the id that `end` took nor one behind it."""
    claim = running(store)
    store.finish(claim, FAILURE, 1)
    before = ids(event_log, claim.job_id)
    for first in (2, 3):
        with pytest.raises(StaleAttempt):
            append(event_log, claim, first, "1")
    assert ids(event_log, claim.job_id) == before


def test_a_paused_worker_cannot_write_after_its_lease_is_taken(redis, store, event_log, sweep):
    """The fence, not the clock, decides who may write."""
    old = running(store)
    append(event_log, old, 2, "1")
    let_lease_run_out(redis, old.job_id)
    append(event_log, old, 3, "1")
    sweep.run_once()
    with pytest.raises(StaleAttempt):
        append(event_log, old, 4, "1")
    new = running(store, old.job_id)
    with pytest.raises(StaleAttempt):
        append(event_log, old, 4, "1")
    assert append(event_log, new, 2, "1").last == 2


# The live channel


def test_the_channel_carries_what_the_log_holds(store, event_log, hear):
    """Every message is what live.encode_batch makes of the events, claim and end included."""
    job_id = submit(store)
    ear = hear(JobKeys(job_id).live)
    claim = running(store, job_id)
    append(event_log, claim, 2, "1", '"two"')
    append(event_log, claim, 4, "{\r\n}", "[\n1,\r2]", "")
    store.finish(claim, SUCCESS, 6)
    one, two, three, four, five, six, end = event_log.read(job_id, EventId(0, 1))
    expected = [[one], [two, three], [four, five, six], [end]]
    assert ear.messages() == [encode_batch(batch) for batch in expected]


def test_a_large_event_is_announced_and_read_from_the_log(store, event_log, hear):
    """Exactly 64 KiB still travels; one byte more and its batch does not."""
    claim = running(store)
    ear = hear(JobKeys(claim.job_id).live)
    fits, too_large = b"1" * MAX_PUBLISHED, b"1" * (MAX_PUBLISHED + 1)
    append(event_log, claim, 2, fits)
    append(event_log, claim, 3, "1", too_large, "1")
    store.finish(claim, replace(SUCCESS, output=b"1" * (MAX_PUBLISHED - 20)), 5)
    first, *middle, end = event_log.read(claim.job_id, EventId(claim.fence, 1))
    assert [event.data for event in (first, *middle)] == [fits, b"1", too_large, b"1"]
    assert len(end.data) > MAX_PUBLISHED
    heard = ear.messages()
    assert heard == [encode_batch([first]), encode_batch(middle), encode_batch([end])]
    assert [(len(message) > MAX_PUBLISHED, message.partition(b"\n")[2] == b"") for message in heard] == [
        (True, False),
        (False, True),
        (False, True),
    ]


def test_the_seam_between_attempts_names_the_event_before_it(redis, store, event_log, sweep, hear):
    """A viewer that lost the last events of attempt 1 sees it at the first of attempt 2."""
    first = running(store)
    append(event_log, first, 2, "1", "2")
    ear = hear(JobKeys(first.job_id).live)
    let_lease_run_out(redis, first.job_id)
    sweep.run_once()
    second = running(store, first.job_id)
    heard = [message.split(b" ")[0].decode() for message in ear.messages()]
    queued, seam = event_log.read(first.job_id, EventId(first.fence, 3))
    assert heard == [f"{first.fence}-3", str(queued.id)]
    assert (seam.id, seam.prev) == (EventId(second.fence, 1), queued.id)


# Bounds


def test_a_log_is_bounded_by_count(redis, store, small_log):
    """The oldest go, in steps; the count is never above the bound."""
    claim = running(store)
    for first in range(2, 302, 10):
        append(small_log, claim, first, *["1"] * 10)
        assert redis.xlen(JobKeys(claim.job_id).events) <= 64
    assert redis.xlen(JobKeys(claim.job_id).events) > 48
    assert redis.llen(JobKeys(claim.job_id).marks) <= 16


def test_a_log_is_bounded_by_bytes(redis, store, small_log):
    """What the record counts is what the stream holds."""
    claim = running(store)
    for seq in range(2, 50):
        append(small_log, claim, seq, b"1" * 500)
    kept = redis.xrange(JobKeys(claim.job_id).events)
    size = sum(len(fields[b"d"]) + 32 for _, fields in kept)
    assert 5000 < size <= 6400
    assert int(redis.hget(JobKeys(claim.job_id).record, "bytes")) == size


def test_an_event_larger_than_the_bound_leaves_a_log_that_goes_on(store, small_log):
    """It is trimmed at once; ids go on, and a reader is told of the gap."""
    claim = running(store)
    append(small_log, claim, 2, b"1" * 10_000)
    append(small_log, claim, 3, "3")
    assert small_log.position(claim.job_id).trimmed == EventId(claim.fence, 2)
    assert ids(small_log, claim.job_id) == ["0-1"]
    assert [event.data for event in small_log.read(claim.job_id, EventId(claim.fence, 2))] == [b"3"]


def test_the_first_and_the_last_event_are_never_trimmed(store, small_log):
    """Every log begins with `0-1`, and an ended one has its end."""
    claim = running(store)
    fill(small_log, claim, 200)
    store.finish(claim, SUCCESS, 201)
    first = small_log.read(claim.job_id, START)
    assert [(str(event.id), event.prev, event.kind) for event in first] == [("0-1", START, "state")]
    assert json.loads(first[0].data)["state"] == "queued"
    assert small_log.read(claim.job_id, EventId(0, 1))[-1].kind == "end"


def test_a_page_has_no_hole_in_itself_and_shows_the_gap_before_it(store, small_log):
    """The trim mark is the `prev` of the first event kept."""
    claim = running(store)
    fill(small_log, claim, 200)
    trimmed = small_log.position(claim.job_id).trimmed
    page = small_log.read(claim.job_id, EventId(0, 1))
    assert page[0].prev == trimmed
    assert all(event.prev == before.id for before, event in pairwise(page))
    assert page[-1].id == EventId(claim.fence, 201)


# Read


def test_pages_follow_each_other_without_hole_or_repeat(store, event_log):
    """Whatever the limit is."""
    claim = running(store)
    fill(event_log, claim, 100)
    for limit in (1, 7, 33, 512):
        cursor, seen = START, []
        while page := event_log.read(claim.job_id, cursor, limit):
            assert len(page) <= limit
            assert page[0].prev == cursor
            seen += page
            cursor = page[-1].id
        assert [str(event.id) for event in seen] == ids(event_log, claim.job_id)


def test_a_page_of_large_events_is_small(store, event_log):
    """Bytes are bounded for each viewer, however large the events are."""
    claim = running(store)
    for seq in range(2, 42):
        append(event_log, claim, seq, b"1" * 200_000)
    cursor, seen = START, 0
    while page := event_log.read(claim.job_id, cursor):
        assert sum(len(event.data) for event in page) <= PAGE_BYTES
        seen += len(page)
        cursor = page[-1].id
    assert seen == 42
    append(event_log, claim, 42, b"1" * (PAGE_BYTES + 1))
    assert len(event_log.read(claim.job_id, cursor)) == 1


# Cursors


@pytest.mark.parametrize("cursor", [None, "", "0", "0-0"])
def test_a_viewer_without_a_cursor_begins_at_the_start(store, event_log, small_log, cursor):
    """Nothing seen, and all the ways to say so; also where the start has been trimmed."""
    claim = running(store)
    assert event_log.locate(claim.job_id, cursor) == Start(START)
    fill(small_log, claim, 200)
    assert event_log.locate(claim.job_id, cursor) == Start(START)


def test_a_viewer_goes_on_behind_an_entry_of_the_log(store, event_log):
    """Any entry, of any attempt."""
    first = running(store)
    append(event_log, first, 2, "1")
    store.release(first, is_loss=False, reason="drain")
    running(store, first.job_id)
    for event_id in ids(event_log, first.job_id):
        assert event_log.locate(first.job_id, event_id) == Start(EventId.parse(event_id))


def test_a_viewer_whose_next_events_were_trimmed_is_told_the_gap(store, small_log):
    """From its cursor to the trim mark; at the mark itself nothing is missing."""
    claim = running(store)
    fill(small_log, claim, 200)
    trimmed = small_log.position(claim.job_id).trimmed
    for cursor in (EventId(0, 1), EventId(claim.fence, 1), EventId(claim.fence, 20)):
        assert small_log.locate(claim.job_id, str(cursor)) == Start(trimmed, "gap", (cursor, trimmed))
    assert small_log.locate(claim.job_id, str(trimmed)) == Start(trimmed)
    assert small_log.read(claim.job_id, trimmed)[0].prev == trimmed


@pytest.mark.parametrize(
    "cursor",
    ["garbage", "-1", "1", "0-2", "0-1 ", "9999999-1", "x" * 10_000, "١-1", "99999999999999999999-1"],
)
def test_any_other_cursor_is_of_a_lost_history(store, event_log, cursor):
    """Garbage and the future included: told, and served from the start."""
    claim = running(store)
    assert event_log.locate(claim.job_id, cursor) == Start(START, "reset")
    assert event_log.locate(claim.job_id, f"{claim.fence}-2") == Start(START, "reset")


def test_a_viewer_that_saw_the_end_is_complete(store, event_log):
    """And only that one, by the record's end id."""
    claim = running(store)
    append(event_log, claim, 2, "1")
    assert not event_log.locate(claim.job_id, f"{claim.fence}-2").is_complete
    store.finish(claim, SUCCESS, 2)
    assert not event_log.locate(claim.job_id, f"{claim.fence}-2").is_complete
    end = EventId(claim.fence, 3)
    assert event_log.locate(claim.job_id, str(end)) == Start(end, is_complete=True)


def test_a_position_tells_how_far_a_log_goes(store, event_log):
    """Of many jobs in one call: what a hub compares its own state with."""
    claim, queued = running(store), submit(store)
    append(event_log, claim, 2, "1")
    running_at, gone, queued_at = event_log.positions([claim.job_id, "gone", queued])
    assert (running_at.last, running_at.end_id, running_at.state) == (
        EventId(claim.fence, 2),
        None,
        JobState.RUNNING,
    )
    assert gone is None
    assert (queued_at.last, queued_at.trimmed) == (EventId(0, 1), None)
    store.finish(claim, SUCCESS, 2)
    ended = event_log.position(claim.job_id)
    assert (ended.last, ended.end_id) == (EventId(claim.fence, 3), EventId(claim.fence, 3))
    assert event_log.positions([]) == []
