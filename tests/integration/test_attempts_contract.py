"""The history of a job's attempts, and what counts as which: on a real server and on fakeredis."""

import pytest
import redis as redis_py
from jobs import SUCCESS, claim_next, let_lease_run_out, running, starting, submit

from rankcast.tasks.job import JobErrorInfo, Outcome
from rankcast.tasks.state import JobState
from rankcast.tasks.summary import attempts

KILLED = JobErrorInfo(kind="group_lost", message='rank 1 was ended by "SIGKILL"', rank=1, signal="SIGKILL")
RAISED = JobErrorInfo(kind="exception", message="boom", rank=0, type="ValueError", traceback="T" * 10_000)
WORKER_LOST = {"kind": "worker_lost", "message": "its worker went silent"}


@pytest.fixture
def redis(redis_or_fake: redis_py.Redis) -> redis_py.Redis:
    return redis_or_fake


def test_each_attempt_is_in_the_record_with_what_it_came_to(redis, store, sweep):
    """A lost group, a lost worker, a retry, a drain, and the one under way; each with its worker."""
    job_id = submit(store)
    claim = running(store, job_id)
    store.release(claim, is_loss=True, reason=KILLED.message, error=KILLED)
    running(store, job_id)
    let_lease_run_out(redis, job_id)
    sweep.run_once()
    store.release(running(store, job_id), is_loss=False, is_retry=True, reason="boom", error=RAISED)
    store.release(running(store, job_id), is_loss=False, reason="drain")
    assert claim_next(store, job_id, worker="w2")
    told = store.record(job_id).attempts
    assert [(each.attempt, each.worker) for each in told] == [(n, "w1") for n in (1, 2, 3, 4)] + [(5, "w2")]
    assert [each.error for each in told] == [KILLED.as_dict(), WORKER_LOST, RAISED.gist(), None, None]
    assert [each.ended_ms is None for each in told] == [False] * 4 + [True]
    assert all(each.started_ms <= (each.ended_ms or each.started_ms) for each in told)


def test_the_last_attempt_is_told_once_the_job_has_ended(redis, store, sweep):
    """Also where another than its worker ended it; a job that nobody ever took has none."""
    failed, cancelled, silent = (running(store) for _ in range(3))
    store.finish(failed, Outcome(state=JobState.FAILED, error=RAISED), 1)
    store.cancel(cancelled.job_id)
    store.finish(cancelled, SUCCESS, 1)
    let_lease_run_out(redis, silent.job_id)
    store.cancel(silent.job_id)
    never = submit(store)
    store.cancel(never)
    stopped = {"kind": "cancelled", "message": "the job was cancelled"}
    for job_id, error in (
        (failed.job_id, RAISED.gist()),
        (cancelled.job_id, stopped),
        (silent.job_id, stopped),
    ):
        [told] = store.record(job_id).attempts
        assert (told.error, told.ended_ms) == (error, store.record(job_id).ended_ms)
    assert store.record(failed.job_id).error == RAISED.as_dict()
    assert store.record(never).attempts == []


def test_a_job_that_loses_too_many_groups_fails_with_what_the_last_one_came_to(store, settings):
    """The kind, the rank and the signal of that loss; the message counts them."""
    job_id = submit(store)
    for _ in range(settings.max_losses):
        state = store.release(running(store, job_id), is_loss=True, reason=KILLED.message, error=KILLED)
    assert state is JobState.FAILED
    error = store.record(job_id).error
    assert {name: error[name] for name in ("kind", "rank", "signal")} == {
        "kind": "group_lost",
        "rank": 1,
        "signal": "SIGKILL",
    }
    assert error["message"] == f"attempt 3 was lost, as 2 before it: {KILLED.message}"
    assert store.record(job_id).attempts[-1].error == KILLED.as_dict()


def test_retries_and_losses_are_counted_apart(store):
    """The next claim is told how many retries are used up; a loss or a drain uses none."""
    job_id = submit(store)
    claim = running(store, job_id)
    assert claim.retried == 0
    for used in (1, 2):
        store.release(claim, is_loss=False, is_retry=True, reason="boom", error=RAISED)
        claim = running(store, job_id)
        assert claim.retried == used
    store.release(claim, is_loss=True, reason="SIGKILL", error=KILLED)
    claim = starting(store, job_id)
    assert (claim.retried, store.record(job_id).losses) == (2, 1)
    # Asked again with its token, as after a lost reply.
    assert claim_next(store, job_id, token=claim.token) == claim


def test_the_history_is_bounded(store):
    """A job that is drained at every deploy for weeks keeps its newest attempts."""
    job_id = submit(store)
    for _ in range(23):
        store.release(running(store, job_id), is_loss=False, reason="drain")
    assert [each.attempt for each in store.record(job_id).attempts] == list(range(4, 24))


def test_the_history_is_told_with_times_as_people_write_them(store):
    claim = running(store)
    store.release(claim, is_loss=True, reason=KILLED.message, error=KILLED)
    [told] = attempts(store.record(claim.job_id))
    assert set(told) == {"attempt", "worker", "started_at", "ended_at", "error"}
    assert told["ended_at"].endswith("Z")
