"""What each client sees of a job: docs/clients.md shows these tests as its table, a cell each.

A new client is a driver and a line in programs.py; a new column is a test here.
"""

import contextlib
import itertools
import json
import random
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
import redis as redis_py
from cutting_proxy import CuttingProxy
from helpers import wait_until
from jobs import FAILURE, SUCCESS, announce, append, running
from web_tier import WebTier, web_tier
from workers import Site, worker

from clients.company import Company
from clients.conftest import Watch
from clients.programs import CLIENTS, OWN, Watching, skip_if_missing
from rankcast.tasks.event import START, EventId
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Claim
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore

#: Longer than clients that take silence for a dead line usually wait, and than one keepalive.
SILENCE_S = 20.0
CUTS = 20
#: No head of an answer is longer. In a browser our client takes a first connection that breaks in it
#: for one that was refused; test_limits.py says what its EventSource does.
HEAD_BYTES = 500

#: What some reader or other takes for the end of a line, of an event or of a value.
TRICKY: list[Any] = [
    "\u2028 \u2029 \u0085 \x0b \x0c \x1c \x1d \x1e \x00",
    "one\ntwo\r\nthree\rfour\n\nid: 7\nevent: end\ndata: no\n\n",
    "\ufeff: a comment? data: no",
    "naïve Ω 😀 e\u0301",
    " two  spaces ",
    {"a": {"b": []}, "": {}},
    [],
    "",
    0,
    False,
    None,
    -1.5e-7,
]


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    skip_if_missing(request.param)
    return str(request.param)


def log_of(event_log: EventLog, job_id: str, after: EventId = START) -> list[tuple[str, str, Any]]:
    """All that a viewer may see."""
    events = event_log.read(job_id, after, 100_000, 1 << 30)
    return [(str(event.id), event.kind, json.loads(event.data or b"null")) for event in events]


def test_frames(client: str, watch: Watch, store: JobStore, event_log: EventLog) -> None:
    """Every kind of event, with every kind of data, as it was written; also the news of a foreign cursor."""
    claim = running(store)
    watching = watch(client, claim.job_id, "99-1")
    watching.has(3)
    append(event_log, claim, 2, *map(orjson.dumps, TRICKY), b"")
    announce(event_log, claim, 3 + len(TRICKY), {"path": "a/b", "attempt": 1})
    store.finish(claim, SUCCESS, 3 + len(TRICKY))
    reset, *seen = watching.to_end()
    assert (reset.id, reset.kind) == ("0-0", "reset")
    assert seen == log_of(event_log, claim.job_id)
    assert watching.results() == [*TRICKY, None]
    assert [event.kind for event in seen if event.kind] == ["state", "state", "checkpoint", "end"]


@pytest.fixture(scope="module")
def over_cut_lines(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """All clients at one job of a real worker, each over a line that is cut 20 times at any byte."""
    folder = tmp_path_factory.mktemp("diary")
    diary = folder / "diary.jsonl"
    with contextlib.ExitStack() as stack:
        site = stack.enter_context(contextlib.closing(Site(valkey_url)))
        site.redis.flushall()
        web = stack.enter_context(web_tier(valkey_url))
        stack.enter_context(worker(valkey_url, "diary.py", folder=folder))
        draw = random.Random(20)
        lines = {}

        def start(client: str) -> Watching:
            cuts = [draw.choice([1, 40, 300, 700, 1500, 4000]) for _ in range(CUTS)]
            if client.endswith("chromium"):
                cuts[0] += HEAD_BYTES
            if client == "eventsource-chromium":
                cuts = [cut + HEAD_BYTES for cut in cuts]
            lines[client] = CuttingProxy(urlsplit(web.url).port or 0, iter(cuts))
            stack.callback(lines[client].close)
            return Watching(client, lines[client].url, job_id)

        job_id = site.submit("acme/diary", {"diary": str(diary), "count": 400})
        company = Company(start)
        stack.callback(company.close)
        company.each(Watching.to_end)
        written = [json.loads(line) for line in diary.read_text().splitlines()]
        yield {"company": company, "lines": lines, "written": written, "log": log_of(site.log, job_id)}


def test_resume(client: str, over_cut_lines: dict[str, Any]) -> None:
    """What it saw is what the task wrote down itself, each once and in order."""
    watching = over_cut_lines["company"][client]
    assert over_cut_lines["lines"][client].count == CUTS
    assert watching.results() == over_cut_lines["written"]
    assert len(over_cut_lines["written"]) == 400
    assert watching.events == over_cut_lines["log"]


def test_late_join(client: str, watch: Watch, store: JobStore, event_log: EventLog) -> None:
    """Who comes when all is over sees all of it: more than the server keeps at hand."""
    claim = running(store)
    for first in range(2, 502, 100):
        append(event_log, claim, first, *[json.dumps({"n": n, "pad": "x" * 500}) for n in range(100)])
    store.finish(claim, SUCCESS, 501)
    assert watch(client, claim.job_id).to_end() == log_of(event_log, claim.job_id)


def alone(site: Site) -> tuple[JobStore, Claim]:
    """A running job in an empty Redis, whose lease lasts as long as all clients together need."""
    site.redis.flushall()
    store = JobStore(site.redis, Settings(lease_s=600))
    return store, running(store)


@pytest.fixture(scope="module")
def through_silence(valkey_url: str) -> Iterator[dict[str, Any]]:
    """All clients at one job that says nothing for 20 s, with the keepalive that users have."""
    with contextlib.ExitStack() as stack:
        site = stack.enter_context(contextlib.closing(Site(valkey_url)))
        store, claim = alone(site)
        web = stack.enter_context(web_tier(valkey_url, RANKCAST_KEEPALIVE_S="15"))
        lines = {}

        def start(client: str) -> Watching:
            lines[client] = CuttingProxy(urlsplit(web.url).port or 0, itertools.repeat(None))
            stack.callback(lines[client].close)
            return Watching(client, lines[client].url, claim.job_id)

        company = Company(start)
        stack.callback(company.close)
        company.each(lambda watching: watching.has(2))
        over_at = time.monotonic() + SILENCE_S
        wait_until(lambda: time.monotonic() > over_at, "the end of the silence", timeout_s=2 * SILENCE_S)
        asked = {client: len(line.streams) for client, line in lines.items()}
        append(site.log, claim, 2, '"at last"')
        store.finish(claim, SUCCESS, 2)
        company.each(Watching.to_end)
        yield {"company": company, "asked": asked, "log": log_of(site.log, claim.job_id)}


def test_keepalive(client: str, through_silence: dict[str, Any]) -> None:
    """It neither takes the silence for a dead line nor a keepalive for an event."""
    assert through_silence["company"][client].events == through_silence["log"]
    assert through_silence["asked"][client] == 1


def test_end(client: str, tier: WebTier, watch: Watch, store: JobStore, event_log: EventLog) -> None:
    """It stops by itself, and does not come back; EventSource comes back once, to hear that it is over."""
    claim = running(store)
    line = CuttingProxy(urlsplit(tier.url).port or 0, itertools.repeat(None))
    with contextlib.closing(line):
        watching = watch(client, claim.job_id, url=line.url)
        watching.has(2)
        store.finish(claim, SUCCESS, 1)
        end = watching.to_end()[-1]
    assert (end.kind, end.data["state"], end.data["output"]) == ("end", "succeeded", {"done": True})
    assert len(line.streams) == (2 if client.startswith("eventsource") else 1)
    if client in OWN:
        assert watching.ended == {"ended": "succeeded", "output": {"done": True}}


def test_failure(client: str, watch: Watch, store: JobStore) -> None:
    """Why the job failed reaches who watches it."""
    claim = running(store)
    watching = watch(client, claim.job_id)
    watching.has(2)
    store.finish(claim, FAILURE, 1)
    end = watching.to_end()[-1]
    error = {"kind": "exception", "message": "boom", "rank": 1}
    assert (end.kind, end.data["state"], end.data["error"]) == ("end", "failed", error)
    if client in OWN:
        assert watching.ended == {"ended": "failed", "error": error}


def test_cancel(client: str, tier: WebTier, watch: Watch, store: JobStore) -> None:
    """Somebody cancels the job; its worker may finish what it likes, the end is `cancelled`."""
    claim = running(store)
    watching = watch(client, claim.job_id)
    watching.has(2)
    assert httpx.post(f"{tier.url}/jobs/{claim.job_id}/cancel").status_code == 202
    store.finish(claim, SUCCESS, 1)
    end = watching.to_end()[-1]
    assert (end.kind, end.data["state"]) == ("end", "cancelled")
    if client in OWN:
        assert watching.ended is not None
        assert (watching.ended["ended"], watching.ended["error"]) == ("cancelled", end.data["error"])


def test_gap(client: str, watch: Watch, redis: redis_py.Redis, store: JobStore) -> None:
    """Of a log that was trimmed it is told what is missing, and sees the rest."""
    bounded = EventLog(redis, Settings(max_log_events=32))
    claim = running(store)
    for seq in range(2, 102):
        append(bounded, claim, seq, str(seq))
    store.finish(claim, SUCCESS, 101)
    first, gap, *rest = watch(client, claim.job_id).to_end()
    assert (first.id, gap.kind) == ("0-1", "gap")
    assert gap.data == {"after": "0-1", "to": gap.id}
    assert rest == log_of(bounded, claim.job_id, EventId.parse(gap.id))
    assert rest[0].id == f"{claim.fence}-{int(gap.id.split('-')[1]) + 1}"


def test_1_mb_event(client: str, watch: Watch, store: JobStore, event_log: EventLog) -> None:
    """In many pieces, some of them cut inside a character."""
    claim = running(store)
    watching = watch(client, claim.job_id)
    watching.has(2)
    text = "αω\u2028😀" * (1024 * 1024 // 11)
    append(event_log, claim, 2, orjson.dumps({"text": text}))
    append(event_log, claim, 3, '"small"')
    store.finish(claim, SUCCESS, 3)
    watching.to_end()
    assert watching.results() == [{"text": text}, "small"]
    assert len(text.encode()) > 1_000_000


@pytest.fixture(scope="module")
def over_a_restart(valkey_url: str) -> Iterator[dict[str, Any]]:
    """All clients at one job whose web process ends; a while later another answers at its address."""
    with contextlib.ExitStack() as stack:
        site = stack.enter_context(contextlib.closing(Site(valkey_url)))
        store, claim = alone(site)
        with web_tier(valkey_url) as web:
            company = Company(lambda client: Watching(client, web.url, claim.job_id))
            stack.callback(company.close)
            append(site.log, claim, 2, '"before"')
            company.each(lambda watching: watching.has(3))
        append(site.log, claim, 3, '"between"')
        with web_tier(valkey_url, port=urlsplit(web.url).port):
            company.each(lambda watching: watching.has(4))
            append(site.log, claim, 4, '"after"')
            store.finish(claim, SUCCESS, 4)
            company.each(Watching.to_end)
        yield {"company": company, "log": log_of(site.log, claim.job_id)}


def test_web_restart(client: str, over_a_restart: dict[str, Any]) -> None:
    """It goes on at the new process, where it was."""
    watching = over_a_restart["company"][client]
    assert watching.events == over_a_restart["log"]
    assert watching.results() == ["before", "between", "after"]
