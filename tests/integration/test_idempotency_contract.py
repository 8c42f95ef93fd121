"""One job for each idempotency key, as long as it lives: on a real server and on fakeredis."""

from dataclasses import replace

import pytest
import redis as redis_py
from jobs import FAILURE, SUCCESS, TASK, forget, let_lease_run_out, let_start_deadline_pass, running, submit

from rankcast.tasks import keys
from rankcast.tasks.errors import IdempotencyKeyReused
from rankcast.tasks.idempotency import IdempotencyKey
from rankcast.tasks.job import JobOptions
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.state import JobState
from rankcast.tasks.store import Created, JobStore

KEY = IdempotencyKey(value="order 17", route="POST /jobs")
NAME = keys.IDEMPOTENCY(KEY.digest)


@pytest.fixture
def redis(redis_or_fake: redis_py.Redis) -> redis_py.Redis:
    return redis_or_fake


def create(store: JobStore, key: IdempotencyKey | None = KEY, **asked: object) -> Created:
    return store.create(**{"task": TASK, "input": b'{"n":1}', "options": JobOptions(), "key": key} | asked)


def test_a_repeat_is_the_first_job_as_it_stands_now(store):
    """Nothing is queued twice, and the answer is of the moment."""
    first, other = create(store), submit(store)
    assert create(store) == first._replace(is_replayed=True)
    claim = running(store, first.job_id)
    again = create(store)
    assert (again.job_id, again.state, again.attempt) == (first.job_id, JobState.RUNNING, 1)
    store.finish(claim, SUCCESS, 1)
    again = create(store)
    assert (again.job_id, again.state, again.queue_position) == (first.job_id, JobState.SUCCEEDED, None)
    assert store.head_of(TASK) == other
    assert store.queued_count(TASK) == 1


@pytest.mark.parametrize(
    "asked",
    [{"task": "acme/other"}, {"input": b'{"n":2}'}, {"options": JobOptions(priority=1)}],
    ids=["task", "input", "options"],
)
def test_another_submit_under_the_same_key_is_refused(redis, store, asked):
    """It was a mistake, and neither job would be the right answer. Nothing is written."""
    first, before = create(store), set(redis.scan_iter())
    with pytest.raises(IdempotencyKeyReused, match=first.job_id):
        create(store, **asked)
    assert set(redis.scan_iter()) == before


def test_the_same_submit_under_other_keys_or_none_is_another_job(store):
    """Scope included."""
    others = [replace(KEY, value="order 18"), replace(KEY, api_key="a"), replace(KEY, route="POST /x"), None]
    assert len({create(store, key).job_id for key in (KEY, *others)}) == 5


def test_a_repeat_passes_a_full_queue(redis, store, settings):
    """It queues nothing."""
    first = create(store)
    full = JobStore(redis, replace(settings, max_queued=1))
    assert create(full).job_id == first.job_id


def test_a_key_lives_as_long_as_its_job(redis, store):
    """However long that waits; then both go in the same moment, and the key makes a new job."""
    first = create(store, options=JobOptions(ttl_s=60))
    assert redis.ttl(NAME) == -1
    store.finish(running(store, first.job_id), FAILURE, 1)
    assert redis.pexpiretime(NAME) == redis.pexpiretime(JobKeys(first.job_id).record) > 0
    forget(redis, first.job_id)
    redis.delete(NAME)
    assert create(store).job_id != first.job_id


@pytest.mark.parametrize("ending", ["cancel", "start deadline", "last loss"])
def test_every_end_of_a_job_lets_its_key_go(redis, store, sweep, settings, ending):
    """There is one place where jobs end."""
    job_id = create(store).job_id
    if ending == "cancel":
        store.cancel(job_id)
    elif ending == "start deadline":
        let_start_deadline_pass(redis, job_id)
        sweep.run_once()
    else:
        for _ in range(settings.max_losses):
            running(store, job_id)
            let_lease_run_out(redis, job_id)
            sweep.run_once()
    assert store.record(job_id).state.is_terminal
    assert redis.pexpiretime(NAME) == redis.pexpiretime(JobKeys(job_id).record) > 0


def test_the_key_of_a_record_deleted_by_hand_stands_for_nothing(redis, store):
    """Its next submit makes a job, and the key is that one's."""
    first = create(store)
    forget(redis, first.job_id)
    redis.zrem(keys.QUEUED(TASK), first.job_id)
    second = create(store)
    assert second.job_id != first.job_id
    assert create(store).job_id == second.job_id


def test_a_submit_asked_again_by_its_id_is_no_replay(store):
    """A lost reply between web tier and Redis: the caller is still the first."""
    first = create(store, job_id="same")
    assert create(store, job_id="same") == first
    assert first.is_replayed is False
    assert create(store, job_id="another").job_id == "same"
