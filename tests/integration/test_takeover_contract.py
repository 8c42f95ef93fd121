"""Jobs of a worker that is known to have died: on a real server and on fakeredis."""

from collections.abc import Callable

import pytest
import redis as redis_py
from jobs import claim_next, running, starting, submit

from rankcast.tasks import keys
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.takeover import Takeover


@pytest.fixture
def redis(redis_or_fake: redis_py.Redis) -> redis_py.Redis:
    return redis_or_fake


@pytest.fixture
def takeover(redis: redis_py.Redis, settings: Settings) -> Callable[..., Takeover]:
    """`takeover("w1")` knows of the death of w1; w1 and w2 were heard not long ago."""
    redis.zadd(keys.WORKERS, {"w1": 1, "w2": 2})
    return lambda *dead: Takeover(redis, settings, has_died=lambda worker: worker in dead)


def test_the_jobs_of_a_dead_worker_are_given_back_as_losses(store, takeover):
    """All of them, whether they ran or were starting; nobody waits for their leases."""
    jobs = [running(store).job_id, starting(store).job_id]
    assert sorted(takeover("w1").run_once()) == sorted(jobs)
    for job_id in jobs:
        record = store.record(job_id)
        assert (record.state, record.losses) == (JobState.QUEUED, 1)
        assert record.attempts[0].error == {"kind": "worker_lost", "message": "its worker died"}


def test_nothing_is_taken_from_a_worker_that_lives(store, takeover):
    """Nor what is queued."""
    claim = running(store)
    submit(store)
    assert takeover("w2").run_once() == []
    assert store.record(claim.job_id).state is JobState.RUNNING


def test_a_job_that_another_has_claimed_since_is_left_alone(redis, store, takeover):
    """The sweep was quicker, and a second worker runs it."""
    claim = running(store)
    store.release(claim, is_loss=True, reason="its worker went silent")
    assert claim_next(store, claim.job_id, worker="w2")
    assert takeover("w1").run_once() == []
    assert store.record(claim.job_id).losses == 1


def test_a_dead_worker_is_looked_through_once(redis, store, takeover):
    """After that a look costs no more than the list of workers, until that has forgotten it."""
    looking = takeover("w1")
    first = running(store)
    assert looking.run_once() == [first.job_id]
    running(store)
    assert looking.run_once() == []
    redis.zrem(keys.WORKERS, "w1")
    looking.run_once()
    redis.zadd(keys.WORKERS, {"w1": 3})
    assert len(looking.run_once()) == 1
