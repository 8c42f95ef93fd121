"""Clients that ask for a stream and do not read it: they cost little, hold nobody up, and lose nothing."""

import contextlib
import http.client
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import psutil
import pytest
import redis as redis_py
from helpers import wait_until
from jobs import SUCCESS, append, ids, running
from web_tier import BOTH_WAYS, Watch, WebTier, frames_of, web_tier

from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Claim
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.store import JobStore

STALLED = 100
EVENTS, BATCH = 20_000, 100
#: What was promised: 50 MB for five hundred.
MOST_PER_VIEWER = 100 * 1024
SEND_TIMEOUT_S = 2


@contextlib.contextmanager
def not_reading(url: str, job_id: str) -> Iterator[socket.socket]:
    """A client that has asked for the stream, and whose kernel takes 4 KiB of it."""
    address = urlsplit(url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        client.connect((address.hostname, address.port))
        client.sendall(f"GET /jobs/{job_id}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        yield client


def play_much(store: JobStore, event_log: EventLog, claim: Claim) -> None:
    """20 MB, as fast as the log takes them."""
    for first in range(0, EVENTS, BATCH):
        data = [b'{"n":%d,"pad":"%b"}' % (n, b"x" * 1000) for n in range(first, first + BATCH)]
        append(event_log, claim, 2 + first, *data)
    store.finish(claim, SUCCESS, 1 + EVENTS)


def answer_to(client: socket.socket) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(client)
    response.begin()
    return response


def read_late(response: http.client.HTTPResponse) -> bytes:
    """All that there still is to read, in order or broken off."""
    raw = bytearray()
    with contextlib.suppress(OSError, http.client.HTTPException):
        while chunk := response.read1(1 << 20):
            raw += chunk
    response.close()
    return bytes(raw)


def rss(web: WebTier) -> int:
    return sum(each.memory_info().rss for each in psutil.Process(web.process.pid).children())


@pytest.mark.parametrize("way", BOTH_WAYS)
def test_stalled_viewers_cost_a_bounded_memory_and_nobody_else_notices(
    way: str, valkey_url: str, store: JobStore, event_log: EventLog
) -> None:
    """A hundred of them, while a job streams 20 MB: its other viewer has all, and they still can."""
    first, claim = running(store), running(store)
    with web_tier(valkey_url, RANKCAST_TAKE_OVER=way) as web, ExitStack() as clients:
        warm = Watch(web.url, f"/jobs/{first.job_id}/stream")
        play_much(store, event_log, first)
        warm.to_end()
        before = rss(web)
        stalled = [clients.enter_context(not_reading(web.url, claim.job_id)) for _ in range(STALLED)]
        for client in stalled:
            client.recv(1, socket.MSG_PEEK)
        quick = Watch(web.url, f"/jobs/{claim.job_id}/stream")
        play_much(store, event_log, claim)
        quick.to_end()
        assert quick.ids == ids(event_log, claim.job_id)
        assert rss(web) - before < STALLED * MOST_PER_VIEWER
        for client in (stalled[0], stalled[-1]):
            frames = frames_of(read_late(answer_to(client)))
            assert [frame.id for frame in frames] == ids(event_log, claim.job_id)


@pytest.fixture(scope="module")
def strict_tier(valkey_url: str) -> Iterator[WebTier]:
    with web_tier(valkey_url, RANKCAST_SEND_TIMEOUT_S=str(SEND_TIMEOUT_S)) as web:
        yield web


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel keeps this time on Linux only")


@on_linux
def test_a_client_that_takes_nothing_is_cut_off_with_its_cursor_intact(
    strict_tier: WebTier, redis: redis_py.Redis, store: JobStore, event_log: EventLog
) -> None:
    """The process is rid of it; what it comes back with leads it to all the rest."""
    claim = running(store)
    channel = JobKeys(claim.job_id).live
    with not_reading(strict_tier.url, claim.job_id) as client:
        client.recv(1, socket.MSG_PEEK)
        assert redis.pubsub_numsub(channel) == [(channel.encode(), 1)]
        play_much(store, event_log, claim)
        wait_until(
            lambda: redis.pubsub_numsub(channel) == [(channel.encode(), 0)],
            "the stalled client to be cut off",
            timeout_s=60,
        )
        seen = frames_of(read_late(answer_to(client)))
    headers = {"Last-Event-ID": seen[-1].id} if seen else {}
    again = Watch(strict_tier.url, f"/jobs/{claim.job_id}/stream", headers=headers)
    again.to_end()
    assert seen[-1].kind != "end"
    assert [frame.id for frame in seen] + again.ids == ids(event_log, claim.job_id)


@on_linux
def test_a_client_that_reads_slowly_is_left_alone(
    strict_tier: WebTier, store: JobStore, event_log: EventLog
) -> None:
    """For longer than one that takes nothing would be; what counts is progress, not speed."""
    claim = running(store)
    with not_reading(strict_tier.url, claim.job_id) as client:
        play_much(store, event_log, claim)
        response = answer_to(client)
        began, slowly = time.monotonic(), b""
        while time.monotonic() < began + 3 * SEND_TIMEOUT_S:
            slowly += response.read1(1024)
            time.sleep(0.02)  # what makes it slow
        frames = frames_of(slowly + read_late(response))
    assert len(slowly) < EVENTS * 1000
    assert [frame.id for frame in frames] == ids(event_log, claim.job_id)
