"""After an outage nobody loses a job that they could not have kept: on a real server and on fakeredis."""

import pytest
import redis as redis_py
from jobs import (
    SUCCESS,
    TASK,
    claim_next,
    forget,
    let_grace_pass,
    let_lease_run_out,
    let_start_deadline_pass,
    let_sweeps_pause,
    now_ms,
    running,
    submit,
)

from rankcast.tasks import keys
from rankcast.tasks.job import Renewal
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.sweep import INTERVAL_S, Sweep, Swept

NOTHING = Swept(leases=0, deadlines=0, ended=0, logs=0)


@pytest.fixture
def redis(redis_or_fake: redis_py.Redis) -> redis_py.Redis:
    return redis_or_fake


@pytest.fixture
def lease_ms(settings: Settings) -> float:
    return settings.lease_s * 1000


@pytest.fixture
def outage(redis: redis_py.Redis, sweep: Sweep, lease_ms: float):
    """`outage()`: Redis was away for longer than a lease, as the next sweep finds it."""
    sweep.run_once()
    return lambda: let_sweeps_pause(redis, 2 * lease_ms)


def test_a_healthy_worker_keeps_its_job_over_an_outage(redis, store, sweep, settings, outage):
    """The first sweep may be quicker than the first renew, whoever sweeps, and however often."""
    claim = running(store)
    outage()
    let_lease_run_out(redis, claim.job_id)
    for _ in range(3):
        assert sweep.run_once() == Sweep(redis, settings).run_once() == NOTHING
    assert store.renew([claim]) == {claim.job_id: Renewal.OWNED}
    let_grace_pass(redis)
    assert sweep.run_once() == NOTHING
    assert store.finish(claim, SUCCESS, 1) is JobState.SUCCEEDED


def test_a_worker_that_stays_away_loses_its_job_after_the_grace(redis, store, sweep, outage):
    """One lease later than without the outage, and no more."""
    claim = running(store)
    outage()
    let_lease_run_out(redis, claim.job_id)
    assert sweep.run_once() == NOTHING
    let_grace_pass(redis)
    assert sweep.run_once() == NOTHING._replace(leases=1)
    assert store.record(claim.job_id).losses == 1


def test_a_job_may_still_start_when_its_deadline_passed_in_an_outage(redis, store, sweep, outage):
    """Its workers could not claim it."""
    job_id = submit(store)
    outage()
    let_start_deadline_pass(redis, job_id)
    assert sweep.run_once() == NOTHING
    assert claim_next(store).job_id == job_id


def test_a_job_that_nobody_starts_in_the_grace_fails(redis, store, sweep, outage):
    """A job that was accepted ends."""
    job_id = submit(store)
    outage()
    let_start_deadline_pass(redis, job_id)
    sweep.run_once()
    let_grace_pass(redis)
    assert sweep.run_once() == NOTHING._replace(deadlines=1)
    assert store.record(job_id).error["kind"] == "start_timeout"


def test_the_grace_is_one_lease_and_begins_once(redis, sweep, lease_ms, outage):
    """Later sweeps do not move it."""
    outage()
    before = now_ms(redis)
    sweep.run_once()
    grace = redis.hget(keys.SWEEPS, "grace")
    assert before + lease_ms <= int(grace) <= now_ms(redis) + lease_ms
    sweep.run_once()
    assert redis.hget(keys.SWEEPS, "grace") == grace


@pytest.mark.parametrize("pause", ["none before", "a second", "a third of a lease, nearly"])
def test_sweeps_at_their_usual_pace_take_what_ran_out(redis, store, sweep, lease_ms, pause):
    """Nor is anybody spared by the first sweep that a deployment ever makes."""
    claim = running(store)
    if pause != "none before":
        sweep.run_once()
        let_sweeps_pause(redis, 1000 if pause == "a second" else lease_ms / 3 - 1000)
    let_lease_run_out(redis, claim.job_id)
    assert sweep.run_once() == NOTHING._replace(leases=1)


def test_a_short_lease_does_not_make_every_second_an_outage(redis, store, settings):
    """Sweeps come once a second, whatever a third of a lease is."""
    sweep = Sweep(redis, Settings(lease_s=INTERVAL_S))
    claim = running(store)
    sweep.run_once()
    let_sweeps_pause(redis, 1.5 * INTERVAL_S * 1000)
    let_lease_run_out(redis, claim.job_id)
    assert sweep.run_once() == NOTHING._replace(leases=1)


def test_what_needs_nobody_goes_on_in_the_grace(redis, store, sweep, outage):
    """Submits, claims, ends, and the clean-up: a deployment that was idle for days begins at once."""
    outage()
    assert sweep.run_once() == NOTHING
    claim = running(store)
    store.finish(claim, SUCCESS, 1)
    redis.zadd(keys.ENDED, {f"{TASK} {claim.job_id}": 1}, xx=True)
    forget(redis, claim.job_id)
    assert sweep.run_once() == NOTHING._replace(ended=1)


def test_a_clock_that_was_set_back_makes_nobody_wait_for_ever(redis, store, sweep, lease_ms):
    """Redis came back on a host whose clock is a day behind: one lease of grace, not a day."""
    sweep.run_once()
    let_sweeps_pause(redis, -24 * 3600 * 1000)
    redis.hset(keys.SWEEPS, "grace", now_ms(redis) + 24 * 3600 * 1000)
    sweep.run_once()
    assert int(redis.hget(keys.SWEEPS, "grace")) <= now_ms(redis) + lease_ms
