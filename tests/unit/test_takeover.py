"""Who asks as another did is let in without Flask: real sockets, crowd and hub, and an app that counts."""

import contextlib
import itertools
import re
import socket
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.socket import socket as GeventSocket

from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.event import RESULT, START, Event, EventId
from rankcast.tasks.eventlog import Page
from rankcast.tasks.live import encode_batch
from rankcast.web.admissions import Asked, asked
from rankcast.web.feed import Feed
from rankcast.web.hangup import Hangups
from rankcast.web.pages import Pages
from rankcast.web.places import Places
from rankcast.web.stream import STREAM, open_stream

TakeOver = pytest.importorskip("rankcast.web.takeover", reason="nothing is taken over here").TakeOver
JOB = "job"
HEAD = b"GET /jobs/job/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nDate: long ago\r\nTransfer-Encoding: chunked\r\n\r\n"
PATIENCE_S = 20


class Hub:
    """As the hub, of one job with an empty log."""

    is_closing = is_last_call = False

    def __init__(self) -> None:
        self.feed = Feed(JOB, self, Pages())  # type: ignore[arg-type]
        self.feed.is_confirmed.set()
        self.is_away = False

    def page(self, job_id: str, after: EventId, max_bytes: int) -> Page:
        return Page([], reaches_end=True)

    def locate(self, job_id: str, cursor: str | None) -> Any:
        if self.is_away:
            raise StoreUnavailable("away")
        return self.feed.locate(cursor or str(START))

    def follow(self, job_id: str) -> Any:
        viewer = SimpleNamespace(feed=self.feed, is_closing=False, is_last_call=False, notify=lambda: None)
        viewer.leave = lambda: None
        viewers: Any = self.feed.viewers
        self.feed.viewers = [*viewers, viewer]  # type: ignore[assignment]
        return viewer


class Site:
    """A take-over with an app behind it, as gunicorn's worker uses it."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.places = Places(100)
        self.asked_app = 0
        self.status = 200
        #: The app answers when it may.
        self.goes_on = gevent.event.Event()
        self.goes_on.set()
        settings = SimpleNamespace(keepalive_s=600.0, stream_max_s=float("inf"))
        self.services: Any = SimpleNamespace(
            hub=self.hub,
            places=self.places,
            settings=settings,
            hangups=Hangups(),
            keyring=None,
            access_log=SimpleNamespace(access_log_enabled=False),
        )
        self.door = TakeOver(self._app, self.services)
        self.far: list[socket.socket] = []

    def _app(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.asked_app += 1
        self.goes_on.wait()
        if self.status == 200:
            start = self.hub.feed.locate(str(START))
            environ[STREAM] = open_stream(self.services, JOB, start, None)
        return []

    def come(self, head: bytes = HEAD) -> socket.socket:
        """A client that has sent `head`; its own end."""
        near, far = socket.socketpair()
        far.sendall(head)
        self.far.append(far)
        near.setblocking(False)
        client = GeventSocket(fileno=near.detach())
        found = asked(head)
        assert found is not None
        gevent.spawn(self._handle, client, found)
        far.setblocking(False)
        return far

    def _handle(self, client: Any, found: Asked) -> None:
        if self.door.let_in(found, client, None):
            return
        client.recv(found.size)
        response = SimpleNamespace(sock=client)
        response.send_headers = lambda: response.sock.sendall(ANSWER)
        environ = {"gunicorn.socket": client, "SERVER_PROTOCOL": "HTTP/1.1"}
        with self.door.as_first(client, found), contextlib.suppress(StopIteration):
            self.door(environ, SimpleNamespace(__self__=response))  # type: ignore[arg-type]
        client.close()

    def tell(self, seq: int) -> None:
        event = EventId(1, seq)
        prev = EventId(1, seq - 1) if seq > 1 else START
        self.hub.feed.hear(encode_batch([Event(event, prev, RESULT, b"%d" % seq)]), time.monotonic())
        self.hub.feed.wake()


def read(far: socket.socket, until: bytes) -> bytes:
    raw = b""
    with gevent.Timeout(PATIENCE_S, AssertionError(f"no {until!r} in {raw!r}")):
        while until not in raw:
            gevent.sleep(0.001)
            with contextlib.suppress(BlockingIOError):
                part = far.recv(1 << 16)
                raw += part
                if not part:
                    return raw
    return raw


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    for far in site.far:
        far.close()


def test_the_second_is_let_in_without_the_app_and_is_sent_the_same(site: Site) -> None:
    first = site.come()
    told = read(first, b"retry:")
    site.tell(1)
    second = site.come()
    again = read(second, b"id: 1-1")
    site.tell(2)
    assert b"id: 1-1" in read(first, b"id: 1-2")
    assert b"id: 1-2" in read(second, b"id: 1-2")
    assert site.asked_app == 1
    date = rb"Date: [^\r]+"
    begin = again[: len(told) + 40]
    assert re.sub(date, b"", begin).startswith(re.sub(date, b"", told[: told.index(b"retry:")]))
    assert b"long ago" not in again
    assert site.places.taken == 2


def test_who_goes_on_from_an_event_is_sent_what_follows_it(site: Site) -> None:
    read(site.come(), b"retry:")
    site.tell(1)
    site.tell(2)
    again = site.come(HEAD.replace(b"\r\n\r\n", b"\r\nLast-Event-ID: 1-1\r\n\r\n"))
    told = read(again, b"id: 1-2")
    assert b"id: 1-1" not in told
    assert site.asked_app == 1


def test_a_crowd_that_comes_at_once_asks_the_app_once(site: Site) -> None:
    site.goes_on.clear()
    clients = [site.come() for _ in range(20)]
    gevent.sleep(0.05)
    assert site.asked_app == 1
    site.goes_on.set()
    for client in clients:
        read(client, b"retry:")
    assert (site.asked_app, site.places.taken) == (1, 20)


def test_who_waited_for_one_that_was_refused_asks_for_itself(site: Site) -> None:
    site.goes_on.clear()
    site.status = 404
    clients = [site.come() for _ in range(3)]
    gevent.sleep(0.05)
    site.goes_on.set()
    for client in clients:
        assert read(client, b"never") == b""
    assert site.asked_app == 3
    site.status = 200
    read(site.come(), b"retry:")
    assert site.asked_app == 4


@pytest.mark.parametrize("why", ["away", "full"])
def test_where_it_cannot_be_done_the_app_is_asked(site: Site, why: str) -> None:
    """It has the words for it."""
    read(site.come(), b"retry:")
    if why == "away":
        site.hub.is_away = True
    else:
        site.services.places = Places(0)
    site.status = 503
    assert read(site.come(), b"never") == b""
    assert site.asked_app == 2


def test_what_was_refused_on_the_way_leaves_nothing_behind(site: Site) -> None:
    """The last viewer leaves; who comes then is the first again."""
    first = site.come()
    read(first, b"retry:")
    first.close()
    with gevent.Timeout(PATIENCE_S):
        while site.places.taken:
            gevent.sleep(0.001)
    read(site.come(), b"retry:")
    assert site.asked_app == 2


def test_a_crowd_that_waited_for_an_answer_is_not_let_in_in_one_go(site: Site) -> None:
    """Others run in between, as soon as gevent lets them."""
    site.places.limit, count, seen = 1000, 200, [0]
    site.goes_on.clear()
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        clients = [site.come() for _ in range(count)]
        gevent.sleep(0.05)
        site.goes_on.set()
        with gevent.Timeout(PATIENCE_S):
            while site.places.taken < count:
                gevent.sleep(1e-6)
                seen.append(site.places.taken)
    finally:
        sys.setswitchinterval(interval_s)
    for client in clients:
        read(client, b"retry:")
    assert max(after - before for before, after in itertools.pairwise(seen)) <= count / 2
