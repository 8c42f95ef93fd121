"""A stream that can be resumed is sent away after a while, so that viewers spread; it costs them nothing."""

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from cutting_proxy import CuttingProxy
from jobs import SUCCESS, TASK, append, ids, running, submit
from web_tier import BOTH_WAYS, Watch, WebTier, web_tier

from rankcast import Client
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Claim
from rankcast.tasks.store import JobStore
from rankcast.web.stream import SPREAD_MS

ROTATIONS = 3


@pytest.fixture(scope="module", params=BOTH_WAYS)
def rotating_tier(request: pytest.FixtureRequest, valkey_url: str) -> Iterator[WebTier]:
    """Streams end after half a second. Its keepalives are late: nothing but the end of its time wakes a
    silent stream."""
    how = {"RANKCAST_TAKE_OVER": request.param}
    with web_tier(valkey_url, RANKCAST_STREAM_MAX_S="0.5", RANKCAST_KEEPALIVE_S="60", **how) as web:
        yield web


@pytest.fixture
def rotating(rotating_tier: WebTier, task: Any) -> str:
    return rotating_tier.url


@pytest.fixture
def streaming(store: JobStore, event_log: EventLog) -> Iterator[Callable[[Claim], threading.Event]]:
    """`streaming(claim)` appends results until the event that it returns is set, then succeeds."""
    threads: list[tuple[threading.Thread, threading.Event]] = []

    def stream(claim: Claim, enough: threading.Event) -> None:
        seq = 1
        while not enough.wait(0.001):
            seq = append(event_log, claim, seq + 1, str(seq), str(seq)).last
        store.finish(claim, SUCCESS, seq)

    def begin(claim: Claim) -> threading.Event:
        enough = threading.Event()
        threads.append((threading.Thread(target=stream, args=(claim, enough)), enough))
        threads[-1][0].start()
        return enough

    yield begin
    for thread, enough in threads:
        enough.set()
        thread.join(30)


def retries_ms(watch: Watch) -> list[int]:
    return [int(digits) for digits in re.findall(rb"^retry: (\d+)$", watch.raw, re.MULTILINE)]


def test_a_viewer_that_is_sent_away_misses_nothing(
    rotating: str, store: JobStore, event_log: EventLog, streaming: Any
) -> None:
    """Each stream ends in order and says when to come back; together they are the log."""
    claim = running(store)
    enough = streaming(claim)
    headers: dict[str, str] = {}
    seen: list[str] = []
    farewells: list[int] = []
    while True:
        watch = Watch(rotating, f"/jobs/{claim.job_id}/stream", headers=headers)
        frames = watch.to_end()
        seen += watch.ids
        if frames[-1].kind == "end":
            break
        assert watch.raw.rpartition(b"\n\n")[2].startswith(b"retry: ")
        farewells.append(retries_ms(watch)[-1])
        headers = {"Last-Event-ID": seen[-1]}
        if len(farewells) == ROTATIONS:
            enough.set()
    assert seen == ids(event_log, claim.job_id)
    assert all(1 <= farewell <= SPREAD_MS for farewell in farewells)
    assert len(set(farewells)) > 1, "viewers that all wait as long come back all at once"


def test_a_silent_stream_is_sent_away_too(rotating: str, store: JobStore) -> None:
    """Nothing happens, and no keepalive is due: the stream ends all the same, and no event is made of it."""
    watch = Watch(rotating, f"/jobs/{submit(store)}/stream")
    assert [frame.id for frame in watch.to_end()] == ["0-1"]
    assert len(retries_ms(watch)) == 2


def test_the_client_notices_nothing(
    rotating: str, store: JobStore, event_log: EventLog, streaming: Any
) -> None:
    claim = running(store)
    connections: list[int] = []

    def never_cut() -> Iterator[Any]:
        while True:
            connections.append(len(connections))
            yield None

    proxy = CuttingProxy(urlsplit(rotating).port or 0, never_cut())
    enough = streaming(claim)
    seen = []
    with Client(proxy.url) as client:
        for event in client.job(claim.job_id).stream():
            seen.append(event.id)
            if len(connections) == 1 + ROTATIONS:
                enough.set()
    proxy.close()
    assert len(connections) >= 1 + ROTATIONS
    assert seen == ids(event_log, claim.job_id)


def test_a_direct_stream_is_never_sent_away(rotating: str, store: JobStore, event_log: EventLog) -> None:
    """Nobody could go on with it: others come and go meanwhile, and it stays to the end."""
    direct = Watch(rotating, f"/run/{TASK}/stream", post={"prompt": "x"})
    claim = running(store, direct.headers["X-Rankcast-Job-Id"])
    for seq in range(2, 2 + ROTATIONS):
        append(event_log, claim, seq, str(seq))
        Watch(rotating, f"/jobs/{claim.job_id}/stream").to_end()
    assert not direct.is_complete
    assert not direct.is_broken
    store.finish(claim, SUCCESS, 1 + ROTATIONS)
    assert [frame.json for frame in direct.to_end()] == [2, 3, 4, {"done": True}]


def test_a_connection_is_said_to_end_with_its_stream(rotating: str, store: JobStore) -> None:
    """Kept open, it would lead the viewer back to the process that has just sent it away."""
    watch = Watch(rotating, f"/jobs/{submit(store)}/stream")
    assert watch.headers["Connection"] == "close"
    watch.to_end()
