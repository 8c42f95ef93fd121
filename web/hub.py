"""Step 7. The hub: one Redis subscriber for all streams of a web process.

SUBSCRIBE follows a job's first viewer here and UNSUBSCRIBE its last. Pub/sub loses what is published
while the connection is away, and says nothing of it, so what was heard is compared with what each
job's record says was written: after every reconnect, and for a job that has been silent a while. So
a lost last event is found although nothing follows it.

The connection is redis-py's `Connection` and not its `PubSub`, which reconnects in silence. Plain
threads: under gunicorn's gevent worker they are greenlets. Who hears of a job's events also writes them to
its viewers, where they are few: what came of one job in one read is one write.
"""

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import redis
from redis.exceptions import RedisError

from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.event import EventId
from rankcast.tasks.eventlog import EventLog, Start
from rankcast.web.feed import Feed, channel_of
from rankcast.web.moderation import Moderation
from rankcast.web.pages import Pages
from rankcast.web.replies import Replies
from rankcast.web.tail import Room
from rankcast.web.turn import YIELD_S, Turn

#: A job that runs and has been silent for this long is compared with its record.
SILENCE_S = 2.0
#: How long a new viewer waits until Redis has confirmed the subscription.
CONFIRM_TIMEOUT_S = 5.0
#: A connection without a word for this long, PONGs included, is dead.
READ_TIMEOUT_S = 10.0
LONGEST_BACK_OFF_S = 1.0
#: How long messages are handled, and how many bytes of them, before other greenlets get their turn: reading
#: does not yield while bytes are there, and who follows is not to fall out of the tail.
TURN_S, TURN_BYTES = 0.005, 64 * 1024
#: Channels named in one SUBSCRIBE.
AT_ONCE = 500
#: Jobs compared in one pipelined call; and those whose viewers are woken before others get their turn.
JOBS_AT_ONCE = 50
CLIENT_NAME = "rankcast-hub"

log = logging.getLogger(__name__)
T = TypeVar("T")


class Viewer:
    """One stream's place at a feed, until it leaves."""

    __slots__ = ("_hub", "feed", "notify")

    def __init__(self, hub: "Hub", feed: Feed) -> None:
        self.feed = feed
        #: Called when there may be more to see, by whoever found out: it waits for nothing.
        self.notify: Callable[[], None] = _ignore
        self._hub = hub

    @property
    def is_closing(self) -> bool:
        """This process is about to end; its streams should go elsewhere."""
        return self._hub.is_closing

    @property
    def is_last_call(self) -> bool:
        """It ends in a moment; nothing is served any longer."""
        return self._hub.is_last_call

    def leave(self) -> None:
        """May be called more than once."""
        self._hub.leave(self)


def _ignore() -> None:
    """Nobody looks yet."""


class Hub:
    """All followed jobs of this process, and the connection that hears of them."""

    def __init__(self, *, url: str, event_log: EventLog, silence_s: float = SILENCE_S) -> None:
        self.is_closing = self.is_last_call = False
        self._event_log = event_log
        self._pages, self._room = Pages(), Room()
        self._silence_s = silence_s
        # Made through a pool only because that is where redis-py reads URLs. RESP2: with RESP3,
        # redis-py takes pushed messages for something else than replies.
        self._connection: Any = redis.ConnectionPool.from_url(
            url,
            protocol=2,
            client_name=CLIENT_NAME,
            socket_timeout=READ_TIMEOUT_S,
            socket_connect_timeout=5.0,
        ).make_connection()
        #: Guards what follows, and the order of commands on the connection.
        self._lock = threading.Lock()
        self._feeds: dict[bytes, Feed] = {}
        #: One entry for each SUBSCRIBE under way. Redis confirms in order, so a confirmation can
        #: never be taken for that of a later subscription to the same channel.
        self._unconfirmed: deque[Feed] = deque()
        self._is_connected = False
        #: The last word from Redis; and when it was first asked for another, which it owes if that is later.
        self._heard_at = self._asked_at = 0.0
        self._started_in: int | None = None
        self._closed = threading.Event()
        self._look_now = threading.Event()

    def start(self) -> None:
        """Connect, in the background. To be called after a fork; again does nothing."""
        with self._lock:
            if self._started_in == os.getpid():
                return
            self._started_in = os.getpid()
        for target in (self._listen, self._watch):
            threading.Thread(target=target, name=f"hub{target.__name__}", daemon=True).start()

    def dismiss(self, *, is_last_call: bool = False) -> None:
        """Tell all viewers that this process is about to end. Who stays is served until the last call."""
        self.is_closing = True
        self.is_last_call = is_last_call
        for some in _in_parts(self._followed(), JOBS_AT_ONCE):
            for feed in some:
                feed.wake()
            # What the woken do next takes longer than to wake them.
            time.sleep(YIELD_S)

    def close(self) -> None:
        """Dismiss all viewers, and hang up."""
        self.dismiss()
        self._closed.set()
        self._look_now.set()
        with self._lock:
            self._is_connected = False
            self._connection.disconnect()

    def follow(self, job_id: str) -> Viewer:
        """Take a place at a job's feed; returns once nothing published can be missed any more.

        StoreUnavailable if Redis does not confirm in time.
        """
        self.start()
        feed = Feed(job_id, self._event_log, self._pages, self._room)
        with self._lock:
            if feed.channel in self._feeds:
                feed = self._feeds[feed.channel]
            else:
                self._feeds[feed.channel] = feed
                self._room.share_among(len(self._feeds))
                self._subscribe([feed])
            viewer = Viewer(self, feed)
            feed.viewers.add(viewer)
        if not feed.is_confirmed.wait(CONFIRM_TIMEOUT_S):
            self.leave(viewer)
            raise StoreUnavailable("Redis did not confirm the subscription to this job's events")
        return viewer

    def locate(self, job_id: str, cursor: str | None) -> Start:
        """As EventLog.locate; a job that is followed here is asked of Redis only where that is needed."""
        feed = self._feeds.get(channel_of(job_id))
        return self._event_log.locate(job_id, cursor) if feed is None else feed.locate(cursor)

    def leave(self, viewer: Viewer) -> None:
        feed = viewer.feed
        # It knows who looks for it, who knows it.
        viewer.notify = _ignore
        with self._lock:
            feed.viewers.discard(viewer)
            if not feed.viewers and self._feeds.get(feed.channel) is feed:
                del self._feeds[feed.channel]
                self._room.share_among(len(self._feeds))
                self._send("UNSUBSCRIBE", feed.channel)

    # The connection

    def _listen(self) -> None:
        """Hear messages for as long as the process lives, over one connection after another."""
        back_off_s = 0.0
        while not self._closed.wait(back_off_s):
            try:
                self._connect()
                back_off_s = 0.0
                self._hear()
            except (RedisError, OSError) as error:
                if back_off_s == 0 and not self._closed.is_set():
                    log.warning("no live events until Redis is back, streams wait: %s", error)
            except Exception:
                # Without this thread nobody would hear anything any more.
                log.exception("hearing live events failed")
            self._disconnected()
            back_off_s = min(LONGEST_BACK_OFF_S, 2 * back_off_s + 0.05)

    def _connect(self) -> None:
        self._connection.connect()
        with self._lock:
            if self._closed.is_set():
                raise redis.ConnectionError("closed while it was connecting")
            self._replies = Replies(self._connection)
            self._heard_at, self._asked_at = time.monotonic(), 0.0
            self._is_connected = True
            self._subscribe(list(self._feeds.values()))

    def _disconnected(self) -> None:
        with self._lock:
            self._is_connected = False
            self._connection.disconnect()
            self._unconfirmed.clear()
            for feed in self._feeds.values():
                feed.doubt()

    def _hear(self) -> None:
        # No read waits for long in vain: _watch finds a connection that is dead.
        replies, moderation = self._replies, Moderation()
        turn_s, turn_bytes = 0.0, 0
        while True:
            found = replies.read()
            now = self._heard_at = time.monotonic()
            began, turn_bytes = now - turn_s, turn_bytes + replies.size
            for feed in self._take(found):
                feed.wake()
                if time.monotonic() - began > TURN_S:
                    time.sleep(YIELD_S)
                    began, turn_bytes = time.monotonic(), 0
            turn_s = time.monotonic() - began
            moderation.read(len(found), now)
            rest_s = 0.0 if replies.may_have_more else moderation.rest_s
            if rest_s or turn_bytes > TURN_BYTES:
                time.sleep(max(rest_s, YIELD_S))
                turn_s, turn_bytes = 0.0, 0

    def _take(self, replies: Sequence[Any]) -> Iterable[Feed]:
        """Take what came in one read; who has heard of something is to be woken, once for all of it."""
        heard: dict[Feed, None] = {}
        for reply in replies:
            if reply[0] == b"message":
                if (feed := self._feeds.get(reply[1])) is None:
                    continue
                try:
                    feed.hear(reply[2], self._heard_at)
                    heard[feed] = None
                except ValueError:
                    log.exception("no message of job %s, its events will be read from the log", feed.job_id)
            elif reply[0] == b"subscribe":
                self._confirmed()
        return heard

    def _confirmed(self) -> None:
        with self._lock:
            feed = self._unconfirmed.popleft()
        feed.is_confirmed.set()
        if feed.is_suspect:
            self._look_now.set()

    def _subscribe(self, feeds: Sequence[Feed]) -> None:
        """With the lock held. While the connection is away nothing is sent: _connect does it later."""
        for some in _in_parts(feeds, AT_ONCE):
            if self._is_connected:
                self._unconfirmed.extend(some)
                self._send("SUBSCRIBE", *[feed.channel for feed in some])

    def _send(self, *command: str | bytes) -> None:
        """With the lock held. A failure is the listener's to notice: redis-py has closed the socket."""
        if self._is_connected:
            with contextlib.suppress(RedisError, OSError):
                self._connection.send_command(*command)

    # Repair

    def _watch(self) -> None:
        """Find what was published and not heard, and a connection that is dead: PING is answered."""
        while not self._closed.is_set():
            self._look_now.wait(self._silence_s)
            self._look_now.clear()
            self._end_if_dead()
            self._ping()
            try:
                self._compare(self._followed(), silent_since=time.monotonic() - self._silence_s)
            except StoreUnavailable as error:
                log.info("cannot compare what was heard with what was written: %s", error)
            except Exception:
                # Without this thread a lost event would never be found.
                log.exception("comparing what was heard with what was written failed")

    def _end_if_dead(self) -> None:
        """Without the lock: somebody may hold it who waits for that connection to take a command."""
        if not self._is_connected or self._asked_at <= self._heard_at:
            return
        if time.monotonic() - self._asked_at > READ_TIMEOUT_S:
            log.warning("Redis has not answered for %.0f s: connecting anew", READ_TIMEOUT_S)
            self._is_connected = False
            # Whoever reads from it or writes to it fails at once.
            self._connection.disconnect()

    def _ping(self) -> None:
        if self._asked_at <= self._heard_at:
            self._asked_at = time.monotonic()
        # Where another command takes so long, the answer to that is waited for.
        if self._lock.acquire(timeout=self._silence_s):
            try:
                self._send("PING")
            finally:
                self._lock.release()

    def _compare(self, feeds: Sequence[Feed], silent_since: float) -> None:
        seen = [(feed, feed.furthest_if_due(silent_since)) for feed in feeds]
        due = [(feed, furthest) for feed, furthest in seen if furthest is not None]
        missing: list[tuple[Feed, EventId]] = []
        turn = Turn(time.sleep)
        for some in _in_parts(due, JOBS_AT_ONCE):
            positions = self._event_log.positions([feed.job_id for feed, _ in some])
            for (feed, furthest), position in zip(some, positions, strict=True):
                if position is None:
                    missing.append((feed, furthest))
                else:
                    feed.compare(furthest, position)
            turn.give()
        for some in _in_parts(missing, JOBS_AT_ONCE):
            # Where that is not sure yet, the next comparison decides.
            self._event_log.confirm_gone([feed.job_id for feed, _ in some])
            for feed, furthest in some:
                feed.compare(furthest, None)
            turn.give()

    def _followed(self) -> list[Feed]:
        # Made in one step; the lock may be held for long.
        return list(self._feeds.values())


def _in_parts(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
