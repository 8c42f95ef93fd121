"""Rank 0's publisher: every event in the log, once, in order, whatever Redis goes through."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
from helpers import wait_until
from jobs import SUCCESS, Memory, forget, let_lease_run_out, running
from lossy import LossyRedis

from rankcast.gpu_worker.messages import Call
from rankcast.gpu_worker.pace import QUICK_EVENTS, QUICK_S, REST_S
from rankcast.gpu_worker.payload import MAX_HELD_BYTES, Draft, encode
from rankcast.gpu_worker.progress import progress_of
from rankcast.gpu_worker.publisher import MAX_DRAFT_BYTES, Publisher
from rankcast.tasks.connect import connect
from rankcast.tasks.errors import EventTooLarge, StaleAttempt
from rankcast.tasks.event import START
from rankcast.tasks.eventlog import BATCH_EVENTS, EventLog
from rankcast.tasks.job import Claim

Make = Callable[..., Publisher]


@pytest.fixture
def make(event_log) -> Iterator[Make]:
    """A publisher, closed at the end."""
    made: list[Publisher] = []

    def make(log: EventLog = event_log, **options: object) -> Publisher:
        made.append(Publisher(log, **options))
        return made[-1]

    yield make
    for publisher in made:
        publisher.close()


@pytest.fixture
def away(valkey_url) -> Iterator[LossyRedis]:
    """A way to Redis that can be cut."""
    proxy = LossyRedis(valkey_url)
    yield proxy
    proxy.close()


@pytest.fixture
def log_through(away, settings) -> Iterator[EventLog]:
    with connect(away.url) as client:
        yield EventLog(client, settings)


def call_of(claim: Claim) -> Call:
    return Call(claim.job_id, claim.fence, claim.token, claim.attempt, "{}", "/nowhere")


def put_numbers(publisher: Publisher, numbers: range) -> None:
    for number in numbers:
        publisher.put(encode(number))


def results(event_log: EventLog, claim: Claim) -> list[object]:
    events = event_log.read(claim.job_id, START, 100_000)
    assert [e.id.seq for e in events if e.id.fence == claim.fence] == list(range(1, len(events)))
    return [json.loads(e.data) for e in events if not e.kind]


def test_a_call_begins_with_its_state(make, store, event_log):
    """The claim wrote n-1; n-2 says that it runs, also where user code never streams."""
    claim = running(store)
    publisher = make()
    publisher.begin(call_of(claim))
    assert publisher.flush() == 2
    last = event_log.read(claim.job_id, START)[-1]
    assert (last.id.seq, last.kind, json.loads(last.data)) == (2, "state", {"state": "running", "attempt": 1})


class Counting:
    """A log that counts what it is told at once."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.sizes: list[int] = []

    def append(self, **told):
        self.sizes.append(len(told["events"]))
        return self._log.append(**told)


def test_that_a_call_runs_is_told_with_its_first_event(make, store, event_log, monkeypatch):
    """One way to Redis less for whoever waits for it."""
    monkeypatch.setattr("rankcast.gpu_worker.publisher.HOLD_S", 60.0)
    claim, log = running(store), Counting(event_log)
    publisher = make(log)
    publisher.begin(call_of(claim))
    put_numbers(publisher, range(1))
    assert publisher.flush() == 3
    assert log.sizes == [2]


def test_that_a_call_runs_is_told_soon_where_it_has_no_event(make, store, event_log):
    claim = running(store)
    make().begin(call_of(claim))
    wait_until(lambda: event_log.read(claim.job_id, START)[-1].id.seq == 2, "the event that it runs")


def test_the_end_of_a_call_waits_for_nothing(make, store, event_log, monkeypatch):
    monkeypatch.setattr("rankcast.gpu_worker.publisher.HOLD_S", 60.0)
    claim = running(store)
    publisher = make()
    for wait in (publisher.flush, publisher.settle):
        publisher.begin(call_of(claim))
        wait()
        publisher.end()
        assert event_log.read(claim.job_id, START)[-1].id.seq == 2


@pytest.fixture
def log(event_log) -> Counting:
    return Counting(event_log)


def come_quickly(publisher: Publisher, claim: Claim) -> None:
    """So many events, each in the log before the next, that the publisher rests."""
    publisher.begin(call_of(claim))
    for _ in range(QUICK_EVENTS):
        publisher.put(b"0")
        publisher.flush()


def test_events_that_come_quickly_are_sent_together(make, store, log):
    """Nobody sees the single one of them; the end of the call waits for no rest."""
    publisher = make(log, rest_s=60.0, clock=lambda: 1.0)
    come_quickly(publisher, running(store))
    log.sizes.clear()
    publisher.put(b"1")
    # The log has it, and from then on the publisher rests.
    publisher.flush()
    put_numbers(publisher, range(3))
    assert publisher.flush() == 2 + QUICK_EVENTS + 4
    assert log.sizes == [1, 3]


def test_each_of_some_slower_events_is_sent_at_once(make, store, log):
    seconds = iter(count(0.0, 1.1 * QUICK_S / QUICK_EVENTS))
    publisher = make(log, rest_s=60.0, clock=lambda: next(seconds))
    come_quickly(publisher, running(store))
    for number in range(3):
        publisher.put(encode(number))
        wait_until(lambda: not publisher._waiting, "the event in the log")


def test_a_rest_ends_by_itself(make, store, event_log):
    claim, publisher = running(store), make(clock=lambda: 1.0)
    come_quickly(publisher, claim)
    put_numbers(publisher, range(1, 4))
    wait_until(lambda: results(event_log, claim)[-3:] == [1, 2, 3], "the events that waited")


def test_nobody_rests_before_a_whole_batch(make, store, event_log, log):
    """A burst goes out as quickly as Redis takes it."""
    claim, publisher = running(store), make(log, rest_s=60.0, clock=lambda: 1.0)
    come_quickly(publisher, claim)
    put_numbers(publisher, range(10 * BATCH_EVENTS))
    wait_until(lambda: results(event_log, claim)[-1] == 10 * BATCH_EVENTS - 1, "the last of the burst")


def test_who_waits_for_the_log_waits_for_no_rest(make, store, event_log):
    claim, publisher = running(store), make(rest_s=60.0, clock=lambda: 1.0)
    come_quickly(publisher, claim)
    for number in range(3):
        publisher.put(encode(number))
        publisher.announce(call_of(claim), f"j/1/{number}.pt", {})
        publisher.put(encode(number))
        publisher.settle()
    assert results(event_log, claim)[-6:] == [0, 0, 1, 1, 2, 2]


def test_a_rest_that_is_over_between_two_looks_at_the_clock_is_over(make, store, monkeypatch):
    """Where the process stood still meanwhile: there is nothing to send because of that."""
    looks = count(1.0, 0.75 * REST_S)
    clock = SimpleNamespace(monotonic=lambda: next(looks), monotonic_ns=time.monotonic_ns)
    monkeypatch.setattr("rankcast.gpu_worker.publisher.time", clock)
    publisher = make(clock=lambda: 1.0)
    come_quickly(publisher, running(store))
    for _ in range(20):
        publisher.put(b"1")
        publisher.flush()
    assert publisher._thread.is_alive()


def test_a_publisher_that_rests_can_be_closed(make, store):
    publisher = make(rest_s=60.0, clock=lambda: 1.0)
    come_quickly(publisher, running(store))
    publisher.put(b"1")


def test_what_is_cast_while_it_rests_keeps_its_place(make, store, event_log, log):
    """Beside what is put; and whoever waits for the log waits for it too."""
    claim, publisher = running(store), make(log, rest_s=60.0, clock=lambda: 1.0)
    come_quickly(publisher, claim)
    call = publisher._call
    log.sizes.clear()
    publisher.put(b"0")
    publisher.flush()
    with publisher._lock:
        # It needs no lock.
        for number in range(1, 60):
            publisher.cast(b"%d" % number, None, call)
    for number in range(60, 200, 2):
        publisher.put(b"%d" % number)
        publisher.cast(b"%d" % (number + 1), None, call)
    publisher.put(b"200")
    publisher.cast(b"201", {"step": 201}, call)
    publisher.announce(call, "j/1/c.pt", {})
    publisher.cast(b"202", {"step": 202}, call)
    publisher.settle()
    publisher.cast(b"203", {"step": 203}, call)
    publisher.flush()
    assert results(event_log, claim)[QUICK_EVENTS:] == list(range(204))
    assert log.sizes == [1, 202, 1, 1]
    assert store.record(claim.job_id).progress == {"step": 203}


def test_what_is_cast_while_it_rests_arrives_by_itself(make, store, event_log):
    claim, publisher = running(store), make(clock=lambda: 1.0)
    come_quickly(publisher, claim)
    for number in range(1, 4):
        publisher.cast(b"%d" % number, None, publisher._call)
    wait_until(lambda: results(event_log, claim)[-3:] == [1, 2, 3], "the events that waited")


def test_a_burst_that_is_cast_waits_for_no_rest(make, store, event_log):
    claim, publisher = running(store), make(rest_s=60.0, clock=lambda: 1.0)
    come_quickly(publisher, claim)
    for number in range(10 * BATCH_EVENTS):
        publisher.cast(b"%d" % number, None, publisher._call)
    wait_until(lambda: len(results(event_log, claim)) > 9 * BATCH_EVENTS, "all whole batches")
    publisher.flush()
    assert results(event_log, claim)[QUICK_EVENTS:] == list(range(10 * BATCH_EVENTS))


def test_what_is_cast_as_a_rest_ends_is_not_left_behind(make, store, event_log, monkeypatch):
    """The publisher has looked for it, and sleeps, when it is put there."""
    claim, publisher = running(store), make(rest_s=60.0, clock=lambda: 1.0)
    come_quickly(publisher, claim)
    inbox = publisher._inbox

    def put_late(*event: object) -> bool:
        publisher.settle()
        inbox.close()
        inbox._events.append(event)
        return True

    monkeypatch.setattr(inbox, "put", put_late)
    publisher.cast(b"1", None, publisher._call)
    # Nobody hurries it.
    wait_until(lambda: results(event_log, claim)[-1] == 1, "the event")


def test_rests_may_begin_and_end_at_any_moment(make, store, event_log):
    """Nothing is lost, doubled or out of order, and nothing waits for ever."""
    claim, publisher = running(store), make(rest_s=0.0002, clock=lambda: 1.0)
    come_quickly(publisher, claim)
    call = publisher._call
    threads = [
        threading.Thread(
            target=lambda w=who: [publisher.cast(encode([w, n]), None, call) for n in range(500)]
        )
        for who in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(results(event_log, claim)) == QUICK_EVENTS + 1500, "all of them")
    found = results(event_log, claim)[QUICK_EVENTS:]
    assert [[n for w, n in found if w == who] for who in range(3)] == [list(range(500))] * 3


def test_what_is_cast_for_a_call_that_has_ended_is_no_part_of_the_next(make, store, event_log):
    """Not even where it came in as that ended."""
    first, second, publisher = running(store), running(store), make(rest_s=60.0, clock=lambda: 1.0)
    come_quickly(publisher, first)
    call = publisher._call
    publisher.put(b"1")
    publisher.flush()
    publisher.cast(b"2", None, call)
    publisher.end()
    with pytest.raises(RuntimeError, match="no job runs"):
        publisher.cast(b"3", None, call)
    publisher.begin(call_of(second))
    with pytest.raises(RuntimeError, match="is over"):
        publisher.cast(b"4", None, call)
    publisher.cast(b"5", None, publisher._call)
    publisher.flush()
    assert results(event_log, second) == [5]


def test_a_call_that_goes_on_or_starts_anew_says_so(make, store, event_log):
    """Viewers see from where, or why not."""
    told = {"path": "j/1/save-1/c.pt", "attempt": 1, "step": 300}
    for more, shown in (
        ({"resumes_from": told}, {"resumes_from": told}),
        ({"notice": "anew"}, {"message": "anew"}),
    ):
        claim = running(store)
        publisher = make()
        publisher.begin(replace(call_of(claim), **more))
        publisher.flush()
        last = event_log.read(claim.job_id, START)[-1]
        assert json.loads(last.data) == {"state": "running", "attempt": 1, **shown}


def test_a_checkpoint_is_announced_when_the_log_has_it(make, store, event_log):
    claim, publisher = running(store), make()
    publisher.begin(call_of(claim))
    put_numbers(publisher, range(500))
    publisher.announce(call_of(claim), "j/1/c.pt", {"step": 5})
    told = {"path": "j/1/c.pt", "attempt": 1, "step": 5}
    last = event_log.read(claim.job_id, START, 100_000)[-1]
    assert (last.id.seq, last.kind, json.loads(last.data)) == (503, "checkpoint", told)
    assert store.record(claim.job_id).checkpoint == told


def test_an_announcement_waits_while_redis_is_away(make, store, event_log, away, log_through):
    """What `save_checkpoint` returned has been announced."""
    claim = running(store)
    publisher = make(log_through)
    publisher.begin(call_of(claim))
    publisher.flush()
    away.cut()
    saver = threading.Thread(target=publisher.announce, args=[call_of(claim), "j/1/c.pt", {}])
    saver.start()
    put_numbers(publisher, range(100))
    assert saver.is_alive()
    assert store.record(claim.job_id).checkpoint is None
    away.mend()
    saver.join()
    assert store.record(claim.job_id).checkpoint == {"path": "j/1/c.pt", "attempt": 1}
    publisher.flush()
    assert results(event_log, claim) == list(range(100))


def test_an_announcement_that_redis_forgot_in_a_restart_is_made_again(make, redis, store):
    """It is an event like the others; the record gets it back with them."""
    claim = running(store)
    publisher = make()
    publisher.begin(call_of(claim))
    publisher.announce(call_of(claim), "j/1/a.pt", {})
    before = Memory(redis)
    publisher.announce(call_of(claim), "j/1/b.pt", {})
    put_numbers(publisher, range(3))
    publisher.flush()
    before.come_back()
    assert store.record(claim.job_id).checkpoint["path"] == "j/1/a.pt"
    publisher.put(b"3")
    publisher.flush()
    assert store.record(claim.job_id).checkpoint["path"] == "j/1/b.pt"


def test_an_attempt_that_was_taken_over_announces_nothing(make, redis, store, sweep):
    """Its file may be whole; nobody begins from it."""
    claim = running(store)
    publisher = make()
    publisher.begin(call_of(claim))
    publisher.announce(call_of(claim), "j/1/a.pt", {})
    let_lease_run_out(redis, claim.job_id)
    sweep.run_once()
    with pytest.raises(StaleAttempt):
        publisher.announce(call_of(claim), "j/1/b.pt", {})
    assert store.record(claim.job_id).checkpoint["path"] == "j/1/a.pt"


def test_an_announcement_ends_with_its_job(make, store, away, log_through):
    """Whoever waits for it, or has just written its file, has no part in the next job."""
    call = call_of(running(store))
    publisher = make(log_through)
    publisher.begin(call)
    publisher.flush()
    away.cut()
    raised: list[str] = []

    def save() -> None:
        with pytest.raises(RuntimeError) as over:
            publisher.announce(call, "j/1/a.pt", {})
        raised.append(str(over.value))

    saver = threading.Thread(target=save)
    saver.start()
    wait_until(lambda: publisher._waiting, "the announcement waits")
    publisher.end()
    saver.join()
    assert "is over" in raised[0]
    publisher.begin(call_of(running(store)))
    with pytest.raises(RuntimeError, match="is over"):
        publisher.announce(call, "j/1/a.pt", {})


def test_a_burst_arrives_whole_and_in_order(make, store, event_log):
    """fal loses the end of it, or gives it to the next caller."""
    claim = running(store)
    publisher = make()
    publisher.begin(call_of(claim))
    put_numbers(publisher, range(3000))
    assert publisher.flush() == 3002
    assert results(event_log, claim) == list(range(3000))


def test_large_events_go_in_batches_that_the_log_takes(make, store, event_log):
    """One over the size of a batch goes alone."""
    claim = running(store)
    publisher = make()
    publisher.begin(call_of(claim))
    sizes = [1, 100_000, 200_000, 300_000, 5, 400_000]
    for size in sizes:
        publisher.put(encode("x" * size))
    publisher.flush()
    assert [len(text) for text in results(event_log, claim)] == sizes


def test_many_threads_may_put(make, store, event_log):
    """Each one's events stay in its order."""
    claim = running(store)
    publisher = make()
    publisher.begin(call_of(claim))
    threads = [
        threading.Thread(target=lambda w=who: [publisher.put(encode([w, n])) for n in range(200)])
        for who in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    publisher.flush()
    found = results(event_log, claim)
    assert [[n for w, n in found if w == who] for who in range(4)] == [list(range(200))] * 4


def test_one_publisher_serves_one_job_after_the_other(make, store, event_log):
    """Nothing of the first is left for the second."""
    publisher = make()
    first, second = running(store), running(store)
    publisher.begin(call_of(first))
    put_numbers(publisher, range(3))
    publisher.flush()
    publisher.end()
    with pytest.raises(RuntimeError, match="no job runs"):
        publisher.put(b"1")
    publisher.begin(call_of(second))
    put_numbers(publisher, range(10, 12))
    assert publisher.flush() == 4
    assert (results(event_log, first), results(event_log, second)) == ([0, 1, 2], [10, 11])


def test_an_event_after_a_pause_is_sent_as_well(make, store, event_log):
    """The sending thread sleeps between events; whoever puts one wakes it, and no wake-up is lost."""
    claim = running(store)
    publisher = make()
    publisher.begin(call_of(claim))
    for number in range(200):
        publisher.put(encode(number))
        if number % 4:
            publisher.flush()
    assert publisher.flush() == 202
    assert results(event_log, claim) == list(range(200))


def test_a_job_that_ends_at_once_does_not_end_the_publisher(make, store, event_log):
    """What was to be sent is gone when the sending thread has woken up."""
    publisher = make()
    for _ in range(50):
        publisher.begin(call_of(running(store)))
        publisher.end()
    claim = running(store)
    publisher.begin(call_of(claim))
    publisher.put(b"1")
    assert publisher.flush() == 3
    assert results(event_log, claim) == [1]


def test_the_newest_progress_is_in_the_record(make, store):
    claim = running(store)
    publisher = make()
    publisher.begin(call_of(claim))
    for step in range(1, 4):
        event = {"step": step, "total": 3, "image": "x" * 300}
        publisher.put(encode(event), progress_of(event))
    publisher.put(encode({"image": "y"}))
    publisher.flush()
    assert store.record(claim.job_id).progress == {"step": 3, "total": 3}


@pytest.mark.parametrize(
    ("event", "progress"),
    [
        ({"progress": 0.5}, {"progress": 0.5}),
        ({"progress": "10/250", "message": "on it", "x": 1}, {"progress": "10/250", "message": "on it"}),
        ({"step": 3, "message": "x" * 300, "total": None}, {"step": 3}),
        ({"step": [1]}, None),
        ({"message": "hello"}, None),
        ([1], None),
    ],
)
def test_progress_is_what_an_event_says_of_it(event, progress):
    """A few small fields; the event itself is untouched."""
    assert progress_of(event) == progress


def test_a_cancel_flag_is_heard_with_the_next_append(make, store):
    heard: list[str] = []
    claim = running(store)
    publisher = make(on_cancel=heard.append)
    publisher.begin(call_of(claim))
    publisher.flush()
    assert heard == []
    store.cancel(claim.job_id)
    publisher.put(b"1")
    publisher.flush()
    assert heard == [claim.job_id]


def test_what_is_put_while_redis_is_away_arrives_when_it_is_back(make, store, event_log, away, log_through):
    """And nobody waits for it before the flush."""
    claim = running(store)
    publisher = make(log_through)
    publisher.begin(call_of(claim))
    publisher.flush()
    away.cut()
    put_numbers(publisher, range(500))
    away.mend()
    assert publisher.flush() == 502
    assert results(event_log, claim) == list(range(500))


def test_a_full_buffer_blocks_and_says_so(make, store, event_log, away, log_through, capsys, wait_until):
    """Nothing is dropped: the caller waits until Redis takes what is there."""
    claim = running(store)
    publisher = make(log_through, max_bytes=100)
    publisher.begin(call_of(claim))
    publisher.flush()
    away.cut()
    writer = threading.Thread(target=put_numbers, args=[publisher, range(100, 200)])
    writer.start()
    told: list[str] = []
    wait_until(lambda: told.append(capsys.readouterr().err) or any(told), "it says that it blocks")
    assert "wait for Redis; add_streaming_result blocks" in "".join(told)
    assert writer.is_alive()
    away.mend()
    writer.join()
    publisher.flush()
    assert results(event_log, claim) == list(range(100, 200))


def test_events_that_redis_forgot_in_a_restart_are_sent_again(make, redis, store, event_log):
    """It may lose its last seconds; the log says that it is behind."""
    claim = running(store)
    publisher = make()
    publisher.begin(call_of(claim))
    put_numbers(publisher, range(5))
    publisher.flush()
    before = Memory(redis)
    put_numbers(publisher, range(5, 700))
    publisher.flush()
    before.come_back()
    publisher.put(encode(700))
    assert publisher.flush() == 703
    assert results(event_log, claim) == list(range(701))


def test_events_that_are_too_old_to_be_sent_again_end_the_attempt(make, redis, store):
    """A hole in the log would never be filled."""
    claim = running(store)
    publisher = make(keep_s=0.0)
    publisher.begin(call_of(claim))
    publisher.flush()
    before = Memory(redis)
    put_numbers(publisher, range(5))
    publisher.flush()
    publisher.put(b"5")
    publisher.flush()
    before.come_back()
    publisher.put(b"6")
    with pytest.raises(StaleAttempt, match="cannot be continued"):
        publisher.flush()
    before.come_back()


def test_an_attempt_that_was_taken_over_writes_nothing_more(make, redis, store, sweep, event_log):
    """The caller learns it from the next put."""
    claim = running(store)
    publisher = make()
    publisher.begin(call_of(claim))
    publisher.put(b'"before"')
    publisher.flush()
    let_lease_run_out(redis, claim.job_id)
    sweep.run_once()
    publisher.put(b'"after"')
    with pytest.raises(StaleAttempt):
        publisher.flush()
    with pytest.raises(StaleAttempt):
        publisher.put(b'"later"')
    told = [event.data for event in event_log.read(claim.job_id, START)]
    assert b'"before"' in told
    assert not {b'"after"', b'"later"'} & set(told)


def settled(publisher: Publisher) -> threading.Event:
    """Set once `settle` has returned."""
    found = threading.Event()

    def settle() -> None:
        publisher.settle()
        found.set()

    threading.Thread(target=settle, daemon=True).start()
    return found


def test_it_settles_once_the_log_has_what_was_told_before(make, store, event_log, away, log_through):
    """Not sooner, while Redis is away."""
    claim = running(store)
    publisher = make(log_through)
    publisher.begin(call_of(claim))
    publisher.flush()
    away.cut()
    put_numbers(publisher, range(3))
    is_settled = settled(publisher)
    assert not is_settled.wait(0.2)
    away.mend()
    assert is_settled.wait(30)
    assert results(event_log, claim) == [0, 1, 2]


def test_it_settles_when_there_is_nothing_to_wait_for(make, store, away, log_through):
    """No call runs, or its call ends, or belongs to somebody else by now."""
    publisher = make(log_through)
    assert settled(publisher).wait(30)
    away.cut()
    publisher.begin(call_of(running(store)))
    is_settled = settled(publisher)
    publisher.end()
    assert is_settled.wait(30)
    away.mend()
    claim = running(store)
    store.finish(claim, SUCCESS, 1)
    publisher.begin(call_of(claim))
    assert settled(publisher).wait(30)


def test_nothing_is_written_after_the_end(make, store, event_log):
    claim = running(store)
    publisher = make()
    publisher.begin(call_of(claim))
    store.finish(claim, SUCCESS, publisher.flush())
    publisher.put(b'"late"')
    with pytest.raises(StaleAttempt):
        publisher.flush()
    assert results(event_log, claim) == []


def test_a_job_that_is_gone_ends_the_attempt(make, redis, store):
    claim = running(store)
    publisher = make()
    publisher.begin(call_of(claim))
    publisher.flush()
    forget(redis, claim.job_id)
    redis.flushall()
    publisher.put(b"1")
    with pytest.raises(StaleAttempt, match="cannot be continued"):
        publisher.flush()


class Slow(Draft):
    """A number that takes until `is_let`."""

    def __init__(self, number: int) -> None:
        self.number, self.size = number, 1000
        self.is_begun, self.is_let = threading.Event(), threading.Event()
        self.error: Exception | None = None
        self.is_dropped = self.has_failed = False

    def drop(self) -> None:
        self.is_dropped = True

    def is_ready(self) -> bool:
        return self.is_let.is_set() and not self.has_failed

    def finish(self) -> bytes:
        self.is_begun.set()
        assert self.is_let.wait(30)
        if self.error is not None:
            self.has_failed = True
            raise self.error
        return encode(self.number)


def test_what_takes_long_to_encode_holds_up_no_caller_and_keeps_its_place(make, store, event_log):
    claim, publisher, slow = running(store), make(), Slow(3)
    publisher.begin(call_of(claim))
    put_numbers(publisher, range(3))
    publisher.put(slow)
    put_numbers(publisher, range(4, 600))
    wait_until(lambda: results(event_log, claim) == [0, 1, 2], "what was before it")
    slow.is_let.set()
    publisher.flush()
    assert results(event_log, claim) == list(range(600))


def test_what_takes_no_time_ends_no_batch(make, store, event_log, log):
    claim, publisher = running(store), make(log)
    publisher.begin(call_of(claim))
    publisher.flush()
    slow = Slow(-1)
    publisher.put(slow)
    assert slow.is_begun.wait(30)
    for number in range(50):
        ready = Slow(number)
        ready.is_let.set()
        publisher.put(ready)
    slow.is_let.set()
    publisher.flush()
    assert results(event_log, claim) == list(range(-1, 50))
    assert log.sizes[1:] == [51]


def test_what_cannot_be_encoded_after_all_is_told_to_the_caller(make, store, event_log):
    """By the next event, or by the end of the call; what was before it is in the log."""
    for tell in (lambda publisher: publisher.flush(), lambda publisher: publisher.put(b"2")):
        claim, publisher, slow = running(store), make(), Slow(1)
        publisher.begin(call_of(claim))
        publisher.put(b"0")
        publisher.put(slow)
        slow.error = EventTooLarge("too large after all")
        slow.is_let.set()
        wait_until(lambda publisher=publisher: publisher._lost, "the failure")
        with pytest.raises(EventTooLarge, match="after all"):
            tell(publisher)
        assert results(event_log, claim) == [0]
        # The claim's event, that of `begin`, and the one before the failure.
        assert publisher.acknowledged == 3


def test_a_few_drafts_wait_and_no_more(make, store, event_log):
    """The first may be large; the next ones share what can be encoded soon."""
    claim, publisher, slow = running(store), make(), Slow(0)
    publisher.begin(call_of(claim))
    assert publisher.room_for_draft == MAX_HELD_BYTES
    slow.size = MAX_DRAFT_BYTES - 1000
    publisher.put(slow)
    assert publisher.room_for_draft == 1000
    another = Slow(1)
    another.size = 2000
    publisher.put(another)
    assert publisher.room_for_draft == 0
    slow.is_let.set()
    another.is_let.set()
    publisher.flush()
    assert publisher.room_for_draft == MAX_HELD_BYTES


def test_a_draft_of_a_call_that_is_over_is_no_part_of_the_next(make, store, event_log):
    first, second, publisher, slow = running(store), running(store), make(), Slow(7)
    publisher.begin(call_of(first))
    publisher.put(slow)
    assert slow.is_begun.wait(30)
    publisher.end()
    publisher.begin(call_of(second))
    publisher.put(b"1")
    slow.is_let.set()
    publisher.flush()
    assert (results(event_log, first), results(event_log, second)) == ([], [1])
    wait_until(lambda: slow.is_dropped, "what it stored to be removed")
    assert publisher.room_for_draft == MAX_HELD_BYTES


def test_an_error_that_nobody_foresaw_reaches_the_caller(make, store):
    """It must not die with the thread, and leave the flush waiting."""
    publisher = make()
    publisher.begin(call_of(running(store)))
    publisher.put(b"{}", kind="end")
    with pytest.raises(ValueError, match="finish"):
        publisher.flush()


def test_a_publisher_can_be_closed_while_redis_is_away(make, store, away, log_through):
    """At once, and what waits is dropped."""
    publisher = make(log_through)
    away.cut()
    publisher.begin(call_of(running(store)))
    publisher.close()
