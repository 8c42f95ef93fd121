"""The processes and viewers of protocol_model.py: the real Python sides, without their threads."""

import time
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from jobs import FAILURE, SUCCESS, TASK
from rewinding_redis import RewindingRedis

from rankcast.gpu_worker.messages import Call
from rankcast.gpu_worker.publisher import Publisher
from rankcast.tasks.errors import Behind, StaleAttempt, StoreUnavailable, UnknownJob
from rankcast.tasks.event import RESET, Event
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Claim, Outcome, Renewal
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.redo import KEEP_S, RedoBuffer
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore
from rankcast.tasks.sweep import Sweep
from rankcast.web.feed import Feed
from rankcast.web.pages import Pages
from rankcast.web.stream import Reader

T = TypeVar("T")
Steps = Generator[None, None, T]

#: How a call may end; None gives the job back.
OUTCOMES = {"succeed": SUCCESS, "fail": FAILURE, "drain": None, "lose": None}


class Violation(AssertionError):
    """The deployment broke a promise."""


class Surroundings(Protocol):
    """What a process knows of the deployment around it."""

    redis: RewindingRedis
    settings: Settings
    #: (job, fence) → what user code streamed; those whose tail nobody could send again.
    emitted: defaultdict[tuple[str, int], list[int]]
    cut: set[tuple[str, int]]

    def new_token(self) -> str: ...

    def fenced(self, worker: "Worker", claim: Claim, why: Exception) -> None: ...


class Process:
    """What any process has: a redo buffer, a connection, and a sweep."""

    def __init__(self, world: Surroundings, name: str) -> None:
        self.world, self.name = world, name
        self.is_frozen = False
        self.client = world.redis.client(name, RedoBuffer(clock=lambda: world.redis.now_s))
        self.store = JobStore(self.client, world.settings)
        self.log = EventLog(self.client, world.settings)
        self._sweep = Sweep(self.client, world.settings)

    @property
    def names(self) -> set[str]:
        """It, and what dies with it."""
        return {self.name, f"{self.name}'s rank"}

    def beat(self) -> None:
        """What its threads do every second."""
        self._sweep.run_once()


class Web(Process):
    """A web process: submits, cancels, and the feeds that its viewers share."""

    def __init__(self, world: Surroundings, name: str) -> None:
        super().__init__(world, name)
        self.feeds: dict[str, Feed] = {}
        self._ear: Any = None

    def follow(self, job_id: str) -> Feed:
        self.connect()
        if job_id not in self.feeds:
            self.feeds[job_id] = Feed(job_id, self.log, Pages())
            self._subscribe(job_id)
        return self.feeds[job_id]

    def connect(self) -> None:
        """As the hub: subscribe afresh to all that is followed."""
        if self._ear is None:
            self._ear = self.client.pubsub()
            for job_id in self.feeds:
                self._subscribe(job_id)

    def disconnected(self) -> None:
        if self._ear is not None:
            self._ear.close()
            self._ear = None
            for feed in self.feeds.values():
                feed.doubt()

    def hear(self, lost: Callable[[], bool] = lambda: False) -> None:
        """Take what was published since, but for what is lost on the way."""
        if self._ear is None:
            return
        while message := self._ear.get_message():
            if message["type"] == "message" and not lost():
                feed = self.feeds[message["channel"].decode().split(":")[2]]
                feed.hear(message["data"], time.monotonic())
                feed.wake()

    def compare(self) -> None:
        """What was heard with what was written, for each feed."""
        for feed in self.feeds.values():
            furthest = feed.furthest_if_due(silent_since=float("inf"))
            if furthest is not None:
                position = self.log.positions([feed.job_id])[0]
                if position is None:
                    self.log.confirm_gone([feed.job_id])
                feed.compare(furthest, position)

    def beat(self) -> None:
        super().beat()
        self.connect()
        self.compare()

    def _subscribe(self, job_id: str) -> None:
        self._ear.subscribe(JobKeys(job_id).live)
        while self._ear.get_message()["type"] != "subscribe":
            pass
        self.feeds[job_id].is_confirmed.set()


class _Place:
    """A viewer's place at a feed, as hub.Viewer; nobody waits here."""

    is_closing = is_last_call = False

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.notify: Callable[[], None] = lambda: None
        feed.viewers.add(self)  # type: ignore[arg-type]


class Viewer:
    """Somebody who watches a job, may go, and comes back with the last id that was seen."""

    def __init__(self, web: Web, job_id: str) -> None:
        self.job_id = job_id
        #: What was seen since the last `reset`.
        self.seen: list[Event] = []
        self.cursor: str | None = None
        self.is_complete = False
        self.come(web)

    def come(self, web: Web) -> None:
        place = _Place(web.follow(self.job_id))
        try:
            start = place.feed.locate(self.cursor)
        except StoreUnavailable:
            # Whoever is told so comes back.
            self._stream = iter(())
            return
        except UnknownJob:
            raise Violation(f"{self.job_id} was accepted, and is unknown to a viewer of it") from None
        self.is_complete = start.is_complete
        reader = Reader(viewer=place, start=start, keepalive_s=0)  # type: ignore[arg-type]
        self._stream = iter(reader)

    def read(self) -> None:
        """Take all that there is now."""
        if self.is_complete:
            return
        try:
            while batches := next(self._stream):
                self._told([event for batch in batches for event in batch.events])
        except StopIteration:
            self.is_complete = True
        except UnknownJob:
            raise Violation(f"{self.job_id} was accepted, and its viewer was told that it is lost") from None

    def _told(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.kind == RESET:
                self.seen = []
            else:
                self.seen.append(event)
            self.cursor = str(event.id)


class SteppedPublisher(Publisher):
    """Rank 0's publisher, whose thread is the one who walks."""

    def _send_all(self) -> None:
        """No thread sends."""

    def step(self) -> None:
        if not self._has_work() or (batch := self._next()) is None:
            return
        try:
            self._send(batch)
        except StoreUnavailable:
            pass
        except Exception as error:
            self._lose(batch.call, error)

    @property
    def has_sent_all(self) -> bool:
        return not self._waiting or self._lost is not None


class Worker(Process):
    """A worker with one slot. `step` goes on to the next thing that could take time."""

    def __init__(self, world: Surroundings, name: str) -> None:
        super().__init__(world, name)
        self.rank_redo = RedoBuffer(clock=lambda: world.redis.now_s)
        self.rank = world.redis.client(f"{name}'s rank", self.rank_redo)
        self.rank_log = EventLog(self.rank, world.settings)
        self.publisher = SteppedPublisher(
            self.rank_log,
            on_cancel=lambda job_id: self._heard_cancel(),
            # The walk alone says when something is sent.
            rest_s=0.0,
            clock=lambda: world.redis.now_s,
        )
        self.claim: Claim | None = None
        self.is_calling = False
        #: How the call is to end, once that is decided.
        self.order = ""
        #: It stood still, or its claim cannot outlive a restart, during this attempt.
        self.is_excused = False
        self._is_lost = self._is_cancelled = False
        #: Its first attempt loads the group.
        self._is_warm = False
        self._life = self._live()

    def step(self) -> None:
        next(self._life)

    def emit(self) -> None:
        """User code streams an event."""
        assert self.claim is not None
        told = self.world.emitted[self.claim.job_id, self.claim.fence]
        try:
            self.publisher.put(b'["%s",%d]' % (self.claim.token.encode(), len(told)))
            told.append(len(told))
        except StaleAttempt:
            self._is_lost = True

    def beat(self) -> None:
        """Renew; whether that or the sweep comes first, the walk decides."""
        if self.claim is not None:
            match self.store.renew([self.claim])[self.claim.job_id]:
                case Renewal.LOST:
                    self._is_lost = True
                case Renewal.CANCEL_REQUESTED:
                    self._heard_cancel()

    def sweep(self) -> None:
        self._sweep.run_once()

    def _heard_cancel(self) -> None:
        self._is_cancelled = True

    # As gpu_worker/attempt.py; each yield is a moment in which anything else may happen.

    def _live(self) -> Steps[None]:
        while True:
            yield from self._attempt()
            yield

    def _attempt(self) -> Steps[None]:
        token = self.world.new_token()
        is_warm = self._is_warm
        claim = yield from self._insist(
            lambda: self.store.claim(task=TASK, token=token, worker=self.name, job_id=None, is_warm=is_warm)
        )
        if claim is None:
            return
        self.claim, self.order = claim, ""
        self._is_lost = self._is_cancelled = self.is_excused = False
        try:
            yield
            yield from self._run(claim)
        except (StaleAttempt, UnknownJob) as gone:
            self.world.fenced(self, claim, gone)
        finally:
            self.claim = None

    def _run(self, claim: Claim) -> Steps[None]:
        final_seq, is_cancelled = 0, False
        if not self._is_warm:
            is_cancelled = yield from self._insist(lambda: self.store.start(claim))
            self._is_warm = True
        if not is_cancelled:
            final_seq = yield from self._call(claim)
        if self._is_lost:
            raise StaleAttempt("another owns the job")
        yield
        outcome = OUTCOMES[self.order] if self.order else FAILURE
        if outcome is not None or self._is_cancelled:
            yield from self._finish(claim, outcome or FAILURE, final_seq)
        else:
            is_loss = self.order == "lose"
            yield from self._insist(lambda: self.store.release(claim, is_loss=is_loss, reason="drain"))

    def _call(self, claim: Claim) -> Steps[int]:
        self.publisher.begin(
            Call(claim.job_id, claim.fence, claim.token, claim.attempt, "{}", checkpoints="")
        )
        self.is_calling = True
        try:
            while not (self.order or self._is_lost or self._is_cancelled):
                yield
            if self._is_lost or self.order == "lose":
                return 0
            while not self.publisher.has_sent_all:
                yield
            return self.publisher.flush()
        finally:
            self.is_calling = False
            self.publisher.end()

    def _finish(self, claim: Claim, outcome: Outcome, final_seq: int) -> Steps[None]:
        seq, is_cut, give_up_at = final_seq, False, self.world.redis.now_s + KEEP_S
        while True:
            finish = partial(self.store.finish, claim, outcome, seq, is_cut=is_cut)
            try:
                yield from self._insist(finish)
                return
            except Behind as behind:
                if self.world.redis.now_s > give_up_at:
                    self.world.cut.add((claim.job_id, claim.fence))
                    seq, is_cut = behind.last, True
                    yield from self._insist(lambda: self.store.start(claim))
            yield

    def _insist(self, call: Callable[[], T]) -> Steps[T]:
        while True:
            try:
                return call()
            except StoreUnavailable:
                yield
