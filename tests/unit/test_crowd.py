"""Viewers of one job whose sockets were taken over, without a server: real sockets, feed and readers."""

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent.socket import wait_read

from rankcast.tasks.errors import StoreUnavailable, UnknownJob
from rankcast.tasks.event import END, RESULT, START, Event, EventId
from rankcast.tasks.eventlog import Page, Start
from rankcast.tasks.live import encode_batch
from rankcast.web import sink as sinks
from rankcast.web.crowd import FEW, Crowd
from rankcast.web.feed import Feed
from rankcast.web.hangup import Hangups
from rankcast.web.keepalives import Keepalives
from rankcast.web.pages import Pages
from rankcast.web.sink import Sink
from rankcast.web.stream import Reader, Stream
from rankcast.web.tail import TAIL_BYTES

PATIENCE_S = 20
KEEPALIVE_S = 600.0
MANY = 60


class Job:
    """The log of a job, and what this process hears of it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.is_away = self.is_unknown = False
        # Without pages: what is not in the tail is in the log alone.
        self.feed = Feed("job", self, Pages(max_bytes=0))  # type: ignore[arg-type]
        self.feed.is_confirmed.set()
        assert self.feed.after(START) == []

    @property
    def last(self) -> EventId:
        return self.events[-1].id if self.events else START

    def tell(self, data: bytes = b"{}", kind: str = RESULT) -> None:
        self.hear([self.note(data, kind)])

    def note(self, data: bytes = b"{}", kind: str = RESULT) -> Event:
        """An event that the log has, and nobody has heard of."""
        self.events.append(Event(EventId(1, len(self.events) + 1), self.last, kind, data))
        return self.events[-1]

    def hear(self, *batches: list[Event]) -> None:
        """What came in one read."""
        for batch in batches:
            self.feed.hear(encode_batch(batch), time.monotonic())
        self.feed.wake()

    def page(self, job_id: str, after: EventId, max_bytes: int) -> Page:
        if self.is_away:
            raise StoreUnavailable("away")
        if self.is_unknown:
            raise UnknownJob(job_id)
        return Page(self.events[after.seq : after.seq + 1], reaches_end=after.seq + 1 >= len(self.events))


class Viewer:
    """As the hub's."""

    is_closing = is_last_call = False

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.notify: Callable[[], None] = lambda: None
        self.has_left = False
        feed.viewers.add(self)  # type: ignore[arg-type]

    def leave(self) -> None:
        self.has_left = True
        self.feed.viewers.discard(self)  # type: ignore[arg-type]


class Client:
    """The far end of a sink."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far
        self.raw = b""
        self.is_over = False

    def read(self) -> None:
        """All that comes, as it comes."""
        while not self.is_over:
            wait_read(self.far.fileno())
            with contextlib.suppress(BlockingIOError):
                part = self.far.recv(1 << 20)
                self.raw += part
                self.is_over = not part

    @property
    def seqs(self) -> list[int]:
        return [int(line[6:]) for line in self.raw.split(b"\n") if line.startswith(b"id: 1-")]


class Company:
    """A crowd and its clients."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.viewer = Viewer(job.feed)
        self.crowds: dict[str, Crowd] = {}
        self.hangups = Hangups()
        self._clients: list[Client] = []
        self._readers: list[gevent.Greenlet] = []
        reader = self.reader(START)
        self.keepalives = Keepalives(KEEPALIVE_S)
        stream = Stream(reader, self.viewer, lambda: None)  # type: ignore[arg-type]
        self.crowd = self.crowds["job"] = Crowd(self.crowds, self.keepalives, stream)

    def reader(self, after: EventId) -> Reader:
        return Reader(viewer=self.viewer, start=Start(after), keepalive_s=600)  # type: ignore[arg-type]

    def join(self, after: EventId = START, *, reads: bool = True, kind: type[Sink] = Sink) -> Client:
        """A client that has seen all up to `after`."""
        near, far = socket.socketpair()
        for end in (near, far):
            end.setblocking(False)
        client = Client(near, far)
        self._clients.append(client)
        sink = kind(
            os.dup(near.fileno()),
            self.reader(after).place,
            told=None,
            leave=near.close,
            hangups=self.hangups,
        )
        stream = Stream(self.reader(after), self.viewer, lambda: None)  # type: ignore[arg-type]
        gevent.spawn(self.crowd.welcome, sink, b"", stream)
        if reads:
            self._readers.append(gevent.spawn(client.read))
        return client

    def close(self) -> None:
        # Before what they wait for is closed: its number is another's soon.
        gevent.killall(self._readers)
        for client in self._clients:
            client.is_over = True
            client.far.close()
        until(lambda: self.viewer.has_left, "the end of the crowd")


def until(is_so: Callable[[], object], what: str) -> None:
    with gevent.Timeout(PATIENCE_S, AssertionError(f"waited in vain: {what}")):
        while not is_so():
            gevent.sleep(0.001)


@pytest.fixture
def job() -> Job:
    return Job()


@pytest.fixture
def company(job: Job) -> Iterator[Company]:
    company = Company(job)
    yield company
    company.close()


def test_all_who_stand_at_one_place_are_sent_the_same(job: Job, company: Company) -> None:
    clients = [company.join() for _ in range(3)]
    job.tell()
    until(lambda: all(client.seqs == [1] for client in clients), "the first event")
    late = company.join(EventId(1, 1))
    job.tell()
    job.tell(b"{}", END)
    until(lambda: all(client.is_over for client in (*clients, late)), "the end")
    assert [client.seqs for client in clients] == [[1, 2, 3]] * 3
    assert late.seqs == [2, 3]
    assert {client.raw[-5:] for client in (*clients, late)} == {sinks.LAST_CHUNK}
    assert company.crowds == {}


@pytest.mark.parametrize("viewers", [1, FEW, FEW + 1])
def test_what_came_at_once_is_one_write(job: Job, company: Company, viewers: int) -> None:
    writes = []

    class Counting(Sink):
        def take(self, data: bytes | memoryview) -> int:
            writes.append(data)
            return super().take(data)

    clients = [company.join(kind=Counting) for _ in range(viewers)]
    until(lambda: len(company.crowd._parked) == viewers, "all of them")
    job.hear(*[[job.note()] for _ in range(50)])
    until(lambda: all(client.seqs == list(range(1, 51)) for client in clients), "what came")
    assert len(writes) == viewers
    # What is more than one write takes is not left behind.
    job.hear(*[[job.note(b"[%s]" % (b"1," * 9_000 + b"1"))] for _ in range(5)])
    until(lambda: all(client.seqs == list(range(1, 56)) for client in clients), "all of it")


def test_a_job_that_never_pauses_keeps_nobody_waiting(
    job: Job, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is always more for the crowd; who comes is let in, or sent all the same."""
    monkeypatch.setattr("rankcast.web.turn.TURN_S", 0.0)
    goes_on = [True]

    class Feeding(Sink):
        """Whatever is written to it, there is something new."""

        def take(self, data: bytes | memoryview) -> int:
            if goes_on:
                job.tell()
            return super().take(data)

    company.join(kind=Feeding)
    gevent.sleep(0.05)
    job.tell()
    until(lambda: len(job.events) > 20, "some events")
    last = job.last
    late = company.join(last)
    until(lambda: len(late.seqs) > 20, "events for who came late")
    goes_on.clear()
    job.tell(b"{}", END)
    until(lambda: late.is_over, "the end")
    assert late.seqs == list(range(last.seq + 1, len(job.events) + 1))


def test_who_joins_after_a_rollback_that_took_nothing_from_here_is_parked(job: Job, company: Company) -> None:
    """The log was found shorter than others saw it; the crowd stands where it stood, by another count."""
    first = company.join()
    job.tell()
    until(lambda: first.seqs == [1], "the first event")
    job.feed.rollbacks += 1
    job.feed.wake()
    second = company.join(job.last)
    until(lambda: len(company.crowd._parked) == 2, "both of them to stand at one place")
    job.tell()
    job.tell(b"{}", END)
    until(lambda: first.is_over and second.is_over, "the end of both")
    assert (first.seqs, second.seqs) == ([1, 2, 3], [2, 3])


def test_who_is_ahead_in_the_middle_of_a_batch_is_parked_with_the_others(job: Job, company: Company) -> None:
    """It has read a page of the log that ends there, and the batch is heard after that."""
    first = company.join()
    job.tell()
    until(lambda: first.seqs == [1], "the first event")
    batch = [job.note() for _ in range(3)]
    ahead = company.join(batch[0].id)
    until(lambda: company.crowd._arriving, "one who is ahead")
    job.hear(batch)
    until(lambda: (first.seqs, ahead.seqs) == ([1, 2, 3, 4], [3, 4]), "the rest of the batch, at both")
    until(lambda: len(company.crowd._parked) == 2, "both of them to stand at one place")


def test_a_slow_client_outlives_its_crowd_also_while_redis_is_away(job: Job, company: Company) -> None:
    """The others have seen the end; it has to read the log, which is not to be had for a while."""
    quick, slow = company.join(), company.join(reads=False)
    size = 200_000
    for _ in range(10 + TAIL_BYTES // size):
        job.tell(b'"%b"' % (b"x" * size))
    job.tell(b"{}", END)
    until(lambda: quick.is_over, "the end of the quick one")
    job.is_away = True
    gevent.spawn(slow.read)
    until(lambda: slow.seqs, "what had been written to it")
    gevent.sleep(0.1)
    assert not slow.is_over
    assert len(slow.seqs) < 5
    job.is_away = False
    job.feed.wake()
    until(lambda: slow.is_over, "the end of the slow one")
    assert slow.seqs == quick.seqs == list(range(1, len(job.events) + 1))
    assert slow.raw.endswith(sinks.LAST_CHUNK)


def test_a_client_that_takes_the_rest_late_is_told_that_the_job_is_gone(job: Job, company: Company) -> None:
    """All of it, though the crowd ends with what it could not write at once."""
    slow = company.join(reads=False)
    job.tell(b'"%b"' % (b"x" * 1_000_000))
    until(lambda: job.feed.after(START) and not slow.is_over, "a write that is not whole")
    gevent.sleep(0.05)
    job.feed.is_gone = True
    job.feed.wake()
    gevent.sleep(0.05)
    gevent.spawn(slow.read)
    until(lambda: slow.is_over, "the end")
    assert b"event: reset\n" in slow.raw
    assert b'event: end\ndata: {"state":"lost"}' in slow.raw
    assert slow.raw.endswith(sinks.LAST_CHUNK)


def test_who_comes_back_while_the_others_are_told_that_the_job_is_gone_is_told_as_well(
    job: Job, company: Company
) -> None:
    """It stands where they stand, for what they are told is at no place of the log."""

    class Waiting(Sink):
        """Once it is told, it waits until the slow one is back."""

        def take(self, data: bytes | memoryview) -> int:
            if b'"lost"' in bytes(data):
                gevent.spawn(slow.read)
                until(lambda: company.crowd._arriving, "the slow one")
            return super().take(data)

    quick, slow = company.join(kind=Waiting), company.join(reads=False)
    until(lambda: len(company.crowd._parked) == 2, "both of them")
    job.tell(b'"%b"' % (b"x" * 1_000_000))
    until(lambda: quick.seqs == [1], "the event at the quick one")
    gevent.sleep(0.05)
    job.feed.is_gone = True
    job.feed.wake()
    until(lambda: quick.is_over and slow.is_over, "the end of both")
    for client in (quick, slow):
        assert client.raw.count(b'event: end\ndata: {"state":"lost"}') == 1
        assert client.raw.endswith(sinks.LAST_CHUNK)


@pytest.mark.parametrize("kind", [RESULT, END])
def test_what_comes_while_a_slow_client_takes_the_rest_is_sent_at_once(
    job: Job, company: Company, kind: str
) -> None:
    """And not with the next event, or keepalive."""
    quick, slow = company.join(), company.join(reads=False)
    until(lambda: len(company.crowd._parked) == 2, "both of them")
    job.tell(b'"%b"' % (b"x" * 1_000_000))
    gevent.sleep(0.05)
    job.tell(b"{}", kind)
    until(lambda: quick.seqs == [1, 2], "the event at the quick one")
    gevent.spawn(slow.read)
    until(lambda: slow.seqs == [1, 2], "the event at the slow one")
    if kind == END:
        until(lambda: slow.is_over, "the end of the slow one")


def test_a_line_of_the_access_log_that_fails_is_nobody_elses_affair(job: Job, company: Company) -> None:
    def fail(sent: int) -> None:
        raise ValueError("planted")

    clients = [company.join() for _ in range(4)]
    until(lambda: len(company.crowd._parked) == 4, "all of them")
    for sink in list(company.crowd._parked)[:2]:
        sink._told = fail
    job.tell(b"{}", END)
    until(lambda: all(client.is_over for client in clients), "the end of all")
    assert {client.raw[-5:] for client in clients} == {sinks.LAST_CHUNK}


def test_a_crowd_that_is_over_is_kept_alive_no_more(job: Job, company: Company) -> None:
    """Its last client is gone while more is written."""
    client = company.join(reads=False)
    until(lambda: company.crowd._parked, "its client")
    company.crowd._is_busy = True
    for _ in range(3):
        job.tell(b'"%b"' % (b"x" * 20_000))
    company.crowd._is_busy = False
    client.far.close()
    company.crowd.look()
    until(lambda: not company.crowd._is_busy, "the end of its crowd")
    assert (company.crowds, company.keepalives._watched) == ({}, {})


def test_a_time_that_is_over_may_wait_for_a_lock(job: Job, company: Company) -> None:
    """Whoever sends it away gives back its place at the hub."""
    company.join()
    until(lambda: company.crowd._parked, "its client")
    (sink,) = company.crowd._parked
    left: list[bool] = []

    def leave(close: Callable[[], None] = sink._leave) -> None:
        gevent.sleep(0.01)
        close()
        left.append(True)

    sink._leave = leave
    sink.leave_in(0.01)
    until(lambda: left, "its place")


def test_who_was_closed_while_its_log_was_read_is_not_parked(job: Job, company: Company) -> None:
    """Its descriptor may be another's by then."""
    for _ in range(2):
        company.join()
    until(lambda: len(company.crowd._parked) == 2, "both of them")
    sink = next(iter(company.crowd._parked))
    sink.close()
    company.crowd._come_back(sink, company.crowd._place, has_moved=True)
    assert sink not in company.crowd._parked
    assert sink.place is None
    with pytest.raises(OSError, match="closed"):
        sink.take(b"x")


class Steps:
    """How `count` changes, as a greenlet sees it that gets every turn there is."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._seen = [count()]
        gevent.spawn(self._look)

    def _look(self) -> None:
        with gevent.Timeout(PATIENCE_S, False):
            while True:
                self._seen.append(self._count())
                gevent.sleep(0)

    @property
    def longest(self) -> int:
        return max(abs(after - before) for before, after in itertools.pairwise(self._seen))


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes turns gives one each time that it may."""
    monkeypatch.setattr("rankcast.web.turn.TURN_S", 0.0)


@pytest.mark.usefixtures("short_turns")
def test_many_who_are_let_in_at_once_hold_nobody_up(job: Job, company: Company) -> None:
    crowd = company.crowd
    crowd._is_busy = True
    for _ in range(MANY):
        company.join()
    until(lambda: len(crowd._arriving) == MANY, "all of them")
    crowd._is_busy = False
    steps = Steps(lambda: len(crowd._parked))
    crowd.look()
    assert not crowd._parked
    until(lambda: len(crowd._parked) == MANY, "a place for each")
    assert steps.longest <= FEW


@pytest.mark.usefixtures("short_turns")
def test_a_crowd_that_fails_is_closed_one_by_one(
    job: Job, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever brought the news that could not be written goes on at once."""
    crowd, failures = company.crowd, []

    def fail() -> None:
        failures.append(1)
        raise ValueError("planted")

    clients = [company.join() for _ in range(MANY)]
    until(lambda: len(crowd._parked) == MANY, "all of them")
    monkeypatch.setattr(crowd._reader, "pending", fail)
    steps = Steps(lambda: len(crowd._members))
    job.tell()
    job.tell()
    assert len(crowd._members) == MANY
    until(lambda: all(client.is_over for client in clients), "the end of all")
    assert steps.longest <= FEW
    assert (len(failures), company.crowds, company.viewer.has_left) == (1, {}, True)


@pytest.mark.usefixtures("short_turns")
def test_many_who_hang_up_at_once_hold_nobody_up() -> None:
    hangups, called, pairs = Hangups(), [], [socket.socketpair() for _ in range(MANY)]
    for near, far in pairs:
        hangups.watch(near.fileno(), lambda: called.append(1))
        far.close()
    steps = Steps(lambda: len(called))
    until(lambda: len(called) == MANY, "all calls")
    assert steps.longest <= FEW
    for near, _ in pairs:
        near.close()


@pytest.mark.usefixtures("short_turns")
def test_a_number_that_is_somebody_elses_by_then_is_not_taken_for_who_hung_up() -> None:
    hangups, called = Hangups(), []
    ends = [socket.socketpair() for _ in range(2)]
    numbers = [near.fileno() for near, _ in ends]

    def take_the_other(mine: int) -> None:
        """Close it, and let a connection that lives have its number."""
        called.append(mine)
        (other,) = (near for near, _ in ends if near.fileno() not in (mine, -1))
        number = other.fileno()
        hangups.forget(number)
        os.dup2(alive[0].fileno(), number)
        hangups.watch(number, lambda: called.append(-1))

    alive = socket.socketpair()
    for number in numbers:
        hangups.watch(number, lambda number=number: take_the_other(number))
    for _, far in ends:
        far.close()
    until(lambda: called, "a call")
    gevent.sleep(0.02)
    assert len(called) == 1
    for end in (*alive, *(near for near, _ in ends)):
        end.close()


def test_a_callback_that_fails_does_not_keep_others_from_being_called() -> None:
    hangups, called = Hangups(), []
    pairs = [socket.socketpair() for _ in range(2)]

    def fail() -> None:
        called.append("first")
        raise ValueError("planted")

    hangups.watch(pairs[0][0].fileno(), fail)
    hangups.watch(pairs[1][0].fileno(), lambda: called.append("second"))
    for _, far in pairs:
        far.close()
        gevent.sleep(0.01)
    until(lambda: called == ["first", "second"], "both calls")
    for near, _ in pairs:
        near.close()
