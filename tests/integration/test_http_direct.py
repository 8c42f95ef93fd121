"""The direct stream: one POST, and the results arrive as `data: {json}` frames, the output last."""

from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest
import redis as redis_py
from helpers import wait_until
from jobs import FAILURE, SUCCESS, TASK, append, running, starting
from web_tier import KEEPALIVE_S, Watch, WebTier, told, web_tier

from rankcast.tasks.catalog import Catalog, TaskInfo
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Outcome
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore

INPUT = {"prompt": "x"}


def job_of(watch: Watch) -> str:
    return watch.headers["X-Rankcast-Job-Id"]


def frames_of_naive_reader(chunks: Iterator[bytes]) -> list[Any]:
    """The loop that people write in a browser: it knows no comments and keeps no rest of a chunk."""
    found = []
    for chunk in chunks:
        for part in chunk.decode().split("\n\n"):
            if part.startswith("data: "):
                found.append(orjson.loads(part[6:]))
    return found


@pytest.mark.parametrize("path", ["/stream", f"/run/{TASK}/stream"])
def test_results_arrive_as_data_frames_and_the_output_comes_last(
    web: str, store: JobStore, event_log: EventLog, path: str
) -> None:
    """Nothing else is in the body: no ids, no event names, no states."""
    watch = Watch(web, path, post=INPUT)
    claim = running(store, job_of(watch))
    append(event_log, claim, 2, '{"step":1}', '{"step":2}')
    store.finish(claim, SUCCESS, 3)
    watch.to_end()
    body = watch.raw.replace(b":\n\n", b"")
    assert body == b'data: {"step":1}\n\ndata: {"step":2}\n\ndata: {"done":true}\n\n'


def test_the_head_names_the_job_and_its_own_stream(web: str, store: JobStore) -> None:
    """Who loses the connection can watch on there; the job runs on meanwhile."""
    watch = Watch(web, "/stream", post=INPUT)
    job_id = job_of(watch)
    assert (watch.status, watch.headers["Content-Type"]) == (200, "text/event-stream")
    assert watch.headers["Link"] == f'</jobs/{job_id}/stream>; rel="monitor"'
    assert store.record(job_id).input == INPUT
    watch.leave()


def test_a_naive_reader_misses_nothing_over_a_silence(web: str, store: JobStore, event_log: EventLog) -> None:
    """Keepalives are blocks of their own, and each frame is one write: a few lines of client suffice."""
    watch = Watch(web, "/stream", post=INPUT)
    claim = running(store, job_of(watch))
    for seq in range(2, 5):
        quiet = watch.raw.count(b":\n\n") + 2
        wait_until(lambda: watch.raw.count(b":\n\n") >= quiet, f"silence of {2 * KEEPALIVE_S} s")  # noqa: B023
        append(event_log, claim, seq, b'{"step":%d}' % seq)
    store.finish(claim, SUCCESS, 4)
    watch.to_end()
    expected = [{"step": 2}, {"step": 3}, {"step": 4}, {"done": True}]
    assert frames_of_naive_reader(iter(watch.chunks)) == expected


def test_each_frame_is_one_write(web: str, store: JobStore, event_log: EventLog) -> None:
    """HTTP's chunks show the writes: a reader that takes a read for a frame is right."""
    watch = Watch(web, "/stream", post=INPUT)
    claim = running(store, job_of(watch))
    append(event_log, claim, 2, *[b"%d" % n for n in range(100)])
    store.finish(claim, SUCCESS, 101)
    watch.to_end()
    frames = [chunk for chunk in watch.chunks if chunk != b":\n\n"]
    assert frames == [*[b"data: %d\n\n" % n for n in range(100)], b'data: {"done":true}\n\n']


def test_a_failure_is_the_last_frame(web: str, store: JobStore, event_log: EventLog) -> None:
    """The head is long gone when a job fails, so the frame must say it; and the connection is cut, for
    clients that take every frame for a result."""
    watch = Watch(web, "/stream", post=INPUT)
    claim = running(store, job_of(watch))
    append(event_log, claim, 2, '{"step":1}')
    store.finish(claim, FAILURE, 2)
    last = watch.to_break()[-1]
    assert last.json == {"error": {"kind": "exception", "message": "boom", "rank": 1}}
    # After `Connection: close` Node takes a body that breaks off for whole.
    assert watch.headers["Connection"] == "keep-alive"


def test_a_cancelled_job_ends_its_stream_with_an_error(web: str, store: JobStore) -> None:
    watch = Watch(web, "/stream", post=INPUT)
    store.cancel(job_of(watch))
    assert watch.to_break()[-1].json["error"]["kind"] == "cancelled"


def test_an_output_of_any_size_is_the_last_frame(web: str, store: JobStore) -> None:
    """Also one too large for the end event."""
    watch = Watch(web, "/stream", post=INPUT)
    claim = running(store, job_of(watch))
    output = orjson.dumps("x" * 300_000)
    store.finish(claim, Outcome(state=JobState.SUCCEEDED, output=output), 1)
    assert watch.to_end()[-1].data.encode() == output


def test_a_second_attempt_is_not_told(web: str, store: JobStore, event_log: EventLog) -> None:
    """Without ids there is no way to say it; the results of both attempts come in order."""
    watch = Watch(web, "/stream", post=INPUT)
    first = running(store, job_of(watch))
    append(event_log, first, 2, "1")
    store.release(first, is_loss=True, reason="worker gone")
    second = running(store, first.job_id)
    append(event_log, second, 2, "2")
    store.finish(second, SUCCESS, 2)
    assert [frame.json for frame in watch.to_end()] == [1, 2, {"done": True}]


def test_trimmed_results_end_the_stream_with_an_error(
    webs: tuple[WebTier, WebTier], web: str, redis: redis_py.Redis, store: JobStore
) -> None:
    """Never a silent hole: the client is told, and where the rest of the story is."""
    bounded = EventLog(redis, Settings(max_log_events=32))
    watch = Watch(web, "/stream", post=INPUT)
    claim = running(store, job_of(watch))
    # Too large for the channel, so that they must be read from the log, by a process that is frozen.
    large = b'"%b"' % (b"x" * 70_000)
    with webs[0].frozen():
        for seq in range(2, 102, 2):
            append(bounded, claim, seq, large, large)
        store.finish(claim, SUCCESS, 101)
    error = watch.to_break()[-1].json["error"]
    assert (error["kind"], error["urls"]["stream"]) == ("gap", f"/jobs/{claim.job_id}/stream")


@pytest.fixture(scope="module")
def silent(valkey_url: str) -> Iterator[str]:
    """Nothing is ever written that would find out that a client is gone."""
    with web_tier(valkey_url, RANKCAST_KEEPALIVE_S="600") as web:
        yield web.url


@pytest.mark.parametrize("path", ["/stream", f"/run/{TASK}/stream"])
def test_a_client_that_leaves_cancels_the_job(
    silent: str, task: TaskInfo, store: JobStore, path: str
) -> None:
    """At once, also in a silence. Whoever would come back submits at /jobs."""
    watch = Watch(silent, path, post=INPUT)
    running(store, job_of(watch))
    watch.leave()
    wait_until(lambda: store.record(job_of(watch)).is_cancel_requested, "the job to be cancelled")


@pytest.mark.parametrize("path", ["/stream", f"/run/{TASK}/stream"])
def test_a_detached_job_goes_on_without_its_client(
    web: str, redis: redis_py.Redis, store: JobStore, path: str
) -> None:
    """Who loses the connection can watch on at the job's own stream."""
    watch = Watch(web, f"{path}?detach=1", post=INPUT)
    job_id = job_of(watch)
    claim = starting(store, job_id)
    watch.leave()
    channel = JobKeys(job_id).live
    wait_until(lambda: dict(redis.pubsub_numsub(channel)) == {channel.encode(): 0}, "the hub to let go")
    assert store.start(claim) is False
    assert store.record(job_id).is_cancel_requested is False


def test_detach_is_understood_before_there_is_a_job(web: str, store: JobStore) -> None:
    told(httpx.post(f"{web}/stream?detach=maybe", json=INPUT), 400, "bad-request")
    assert store.list().records == []


def test_a_server_that_ends_tells_its_last_clients_where_to_go_on(
    valkey_url: str, task: TaskInfo, store: JobStore
) -> None:
    """It is no hang-up: the job goes on."""
    with web_tier(valkey_url, GUNICORN_CMD_ARGS="--graceful-timeout 3") as leaving:
        watch = Watch(leaving.url, f"/run/{TASK}/stream", post=INPUT)
        job_id = job_of(watch)
        claim = starting(store, job_id)
        leaving.process.terminate()
        error = watch.to_break()[-1].json["error"]
        leaving.process.wait(30)
    assert (error["kind"], error["job_id"]) == ("leaving", job_id)
    assert error["urls"]["stream"] == f"/jobs/{job_id}/stream"
    assert store.start(claim) is False


def test_a_process_that_ends_serves_its_direct_streams_first(
    web: str, valkey_url: str, store: JobStore, event_log: EventLog
) -> None:
    """Nobody could go on with them elsewhere."""
    with web_tier(valkey_url) as leaving:
        watch = Watch(leaving.url, f"/run/{TASK}/stream", post=INPUT)
        resumable = Watch(leaving.url, f"/jobs/{job_of(watch)}/stream")
        claim = running(store, job_of(watch))
        leaving.process.terminate()
        resumable.to_end()
        append(event_log, claim, 2, '"live still"')
        wait_until(lambda: b"live still" in watch.raw, "a live event")
        store.finish(claim, SUCCESS, 2)
        assert [frame.json for frame in watch.to_end()] == ["live still", {"done": True}]


def test_an_empty_body_is_an_empty_input(web: str) -> None:
    """fal's JavaScript client sends none where there is no input."""
    response = httpx.post(f"{web}/stream")
    assert response.status_code == 422
    assert response.json()["errors"] == [{"path": "$.prompt", "message": "is required"}]


def test_an_input_is_checked_before_the_stream_begins(web: str, store: JobStore) -> None:
    """So that a client sees an HTTP status, and nothing is queued."""
    for wrong in ({"prompt": 1}, ["x"], "x"):
        assert httpx.post(f"{web}/stream", json=wrong).status_code == 422
    assert list(store.list().records) == []


def test_without_a_single_task_there_is_no_default(
    web: str, redis: redis_py.Redis, settings: Settings, valkey_url: str, store: JobStore
) -> None:
    """404 with the names there are, until RANKCAST_DEFAULT_TASK says which is meant."""
    other = TaskInfo(name="acme/other", input_schema={"type": "object"})
    Catalog(redis, settings).register([other])
    problem = httpx.post(f"{web}/stream", json=INPUT).json()
    assert (problem["status"], problem["known"]) == (404, ["acme/other", TASK])
    with web_tier(valkey_url, RANKCAST_DEFAULT_TASK="acme/other") as other_tier:
        watch = Watch(other_tier.url, "/stream", post={})
        assert store.record(job_of(watch)).task == "acme/other"
        watch.leave()


def test_without_any_task_there_is_no_default(web: str, redis: redis_py.Redis) -> None:
    redis.delete("rankcast:tasks")
    problem = httpx.post(f"{web}/stream", json=INPUT).json()
    assert (problem["status"], problem["type"]) == (404, "urn:rankcast:problem:no-default-task")
    assert "--tasks" in problem["detail"]
