"""What the sweep takes and what it leaves alone: on a real server and on fakeredis."""

import pytest
import redis as redis_py
from jobs import (
    SUCCESS,
    TASK,
    append,
    forget,
    let_lease_run_out,
    let_start_deadline_pass,
    owned_by,
    running,
    starting,
    states,
    submit,
)

from rankcast.tasks import keys
from rankcast.tasks.event import EventId
from rankcast.tasks.job import JobOptions
from rankcast.tasks.state import JobState
from rankcast.tasks.sweep import BATCH, Swept

NOTHING = Swept(leases=0, deadlines=0, ended=0, logs=0)


@pytest.fixture
def redis(redis_or_fake: redis_py.Redis) -> redis_py.Redis:
    return redis_or_fake


def test_a_job_whose_worker_went_silent_is_queued_again(redis, store, event_log, sweep):
    """At its old place, with one loss, and its log goes on."""
    claim = running(store)
    append(event_log, claim, 2, "1")
    submit(store)
    let_lease_run_out(redis, claim.job_id)
    assert sweep.run_once() == NOTHING._replace(leases=1)
    record = store.record(claim.job_id)
    assert (record.state, record.losses, record.queue_position) == (JobState.QUEUED, 1, 0)
    assert event_log.read(claim.job_id, EventId(claim.fence, 2))[0].id == record.last
    assert sweep.run_once() == NOTHING


def test_a_lease_that_still_runs_is_left_alone(store, sweep):
    """And so is everything else that is alive."""
    running(store), starting(store), submit(store)
    assert sweep.run_once() == NOTHING


def test_a_job_that_loses_too_many_workers_fails(redis, store, sweep, settings):
    """Poison does not travel from host to host for ever."""
    job_id = submit(store)
    for _ in range(settings.max_losses):
        assert store.record(job_id).state is JobState.QUEUED
        running(store, job_id)
        let_lease_run_out(redis, job_id)
        sweep.run_once()
    record = store.record(job_id)
    assert (record.state, record.error["kind"]) == (JobState.FAILED, "worker_lost")


def test_the_sweep_of_a_cancelled_job_ends_it(redis, store, sweep):
    """The flag decides, not the count of losses."""
    claim = running(store)
    store.cancel(claim.job_id)
    let_lease_run_out(redis, claim.job_id)
    sweep.run_once()
    assert store.record(claim.job_id).state is JobState.CANCELLED


def test_a_job_that_nobody_starts_in_time_fails(redis, store, event_log, sweep):
    """A job that was accepted ends, also when no worker ever comes."""
    job_id = submit(store)
    let_start_deadline_pass(redis, job_id)
    assert sweep.run_once() == NOTHING._replace(deadlines=1)
    record = store.record(job_id)
    assert (record.state, record.error["kind"], record.attempt) == (JobState.FAILED, "start_timeout", 0)
    *_, end = states(event_log, job_id)
    assert end["error"] == record.error


def test_the_start_deadline_holds_until_the_first_start(redis, store):
    """A claim alone does not meet it; a job that ran once has met it for good."""
    claim = starting(store)
    assert redis.zscore(keys.DEADLINES, claim.job_id) is None
    store.release(claim, is_loss=False, reason="drain")
    record = store.record(claim.job_id)
    deadline = record.created_ms + record.options.start_timeout_s * 1000
    assert redis.zscore(keys.DEADLINES, claim.job_id) == deadline
    store.release(running(store, claim.job_id), is_loss=False, reason="drain")
    assert redis.zscore(keys.DEADLINES, claim.job_id) is None


def let_total_time_pass(client: redis_py.Redis, job_id: str) -> None:
    client.hset(keys.JobKeys(job_id).record, "due", 1)
    let_start_deadline_pass(client, job_id)


@pytest.mark.parametrize("is_retried", [False, True])
def test_a_queued_job_that_outlives_its_total_time_fails(redis, store, event_log, sweep, is_retried):
    """Also between two attempts, where no worker keeps the time."""
    job_id = submit(store, total_timeout_s=3600)
    if is_retried:
        store.release(running(store, job_id), is_loss=True, reason="SIGKILL")
    let_total_time_pass(redis, job_id)
    assert sweep.run_once() == NOTHING._replace(deadlines=1)
    record = store.record(job_id)
    assert (record.state, record.error["kind"]) == (JobState.FAILED, "total_timeout")


def test_the_earlier_of_two_deadlines_is_watched(redis, store):
    """The first start's until there was one, then only that of the end; the task's where the job has none."""
    job_id = submit(store, total_timeout_s=7200, start_timeout_s=60)
    created_ms = store.record(job_id).created_ms
    assert redis.zscore(keys.DEADLINES, job_id) == created_ms + 60_000
    store.release(running(store, job_id), is_loss=False, reason="drain")
    assert redis.zscore(keys.DEADLINES, job_id) == created_ms + 7_200_000
    of_task = store.create(task=TASK, input=b"{}", options=JobOptions(), total_timeout_s=5).job_id
    assert redis.zscore(keys.DEADLINES, of_task) == store.record(of_task).created_ms + 5_000


def test_forgotten_jobs_leave_the_lists(redis, store, sweep):
    """Once their time to live is over; others stay."""
    kept, over = running(store), running(store)
    for claim in (kept, over):
        store.finish(claim, SUCCESS, 1)
    redis.zadd(keys.ENDED, {f"{TASK} {over.job_id}": 1}, xx=True)
    forget(redis, over.job_id)
    assert sweep.run_once() == NOTHING._replace(ended=1)
    for index in (keys.JOBS, keys.JOBS_OF(TASK)):
        assert redis.zrange(index, 0, -1) == [kept.job_id.encode()]
    assert redis.zrange(keys.ENDED, 0, -1) == [f"{TASK} {kept.job_id}".encode()]


def test_a_forgotten_job_leaves_the_list_of_its_owner(redis, store, sweep):
    """Its record, which names the owner, is gone by then."""
    kept, over = (running(store, owned_by(store, "k1")) for _ in range(2))
    for claim in (kept, over):
        store.finish(claim, SUCCESS, 1)
    redis.zadd(keys.ENDED, {f"{TASK} {over.job_id} k1": 1}, xx=True)
    forget(redis, over.job_id)
    assert sweep.run_once() == NOTHING._replace(ended=1)
    for index in (keys.JOBS, keys.JOBS_OF(TASK), keys.OWNED("k1")):
        assert redis.zrange(index, 0, -1) == [kept.job_id.encode()]


def test_a_sweep_takes_all_that_is_due_in_small_batches(redis, store, sweep):
    """More than one script call may block Redis for."""
    for _ in range(BATCH + 1):
        let_start_deadline_pass(redis, submit(store))
    assert sweep.run_once() == NOTHING._replace(deadlines=BATCH + 1)
    assert store.queued_count(TASK) == 0
