"""What Redis knows of checkpoints, on a real server and on fakeredis: the announced one, and whose it is."""

from dataclasses import replace

import pytest
import redis as redis_py
from jobs import (
    SUCCESS,
    TASK,
    announce,
    append,
    claim_next,
    forget,
    let_lease_run_out,
    running,
    starting,
    submit,
)

from rankcast.tasks import keys
from rankcast.tasks.errors import Behind, StaleAttempt
from rankcast.tasks.event import START


@pytest.fixture
def redis(redis_or_fake: redis_py.Redis) -> redis_py.Redis:
    return redis_or_fake


def test_the_newest_checkpoint_stands_in_the_record(store, event_log):
    """In one step with its event: of several in a batch the last; a batch sent again changes nothing."""
    claim = running(store)
    events = [("checkpoint", b'{"path":"1"}'), ("", b"1"), ("checkpoint", b'{"path":"2"}'), ("", b"2")]
    shown = {"job_id": claim.job_id, "fence": claim.fence, "token": claim.token}
    event_log.append(**shown, first=2, events=events)
    assert store.record(claim.job_id).checkpoint == {"path": "2"}
    event_log.append(**shown, first=2, events=events[:1])
    append(event_log, claim, 6, '{"path":"3"}')
    assert store.record(claim.job_id).checkpoint == {"path": "2"}
    assert [(event.kind, event.data) for event in event_log.read(claim.job_id, START)[2:6]] == events


def test_a_checkpoint_that_would_leave_a_hole_is_not_announced(store, event_log):
    """Whoever reads of it has read all that came before."""
    claim = running(store)
    with pytest.raises(Behind):
        announce(event_log, claim, 3, {"path": "1"})
    assert store.record(claim.job_id).checkpoint is None


def test_a_checkpoint_of_an_attempt_that_is_over_is_not_announced(redis, store, event_log, sweep):
    """Redis cannot fence a disk; this keeps a frozen worker's late file from the next attempt."""
    claim = running(store)
    announce(event_log, claim, 2, {"path": "good"})
    let_lease_run_out(redis, claim.job_id)
    sweep.run_once()
    second = running(store, claim.job_id)
    for stale in (claim, replace(second, token="another")):
        with pytest.raises(StaleAttempt):
            announce(event_log, stale, 3, {"path": "late"})
    assert store.record(claim.job_id).checkpoint == {"path": "good"}


def test_a_claim_brings_the_checkpoint_that_was_announced_last(redis, store, event_log, sweep):
    """Whoever had the job before, and however it was lost; also a claim whose first reply was."""
    claim = running(store)
    assert claim.checkpoint is None
    told = [{"path": f"{claim.job_id}/{claim.fence}/{n}", "attempt": 1, "step": n} for n in (1, 2)]
    for seq, each in enumerate(told, 2):
        announce(event_log, claim, seq, each)
    let_lease_run_out(redis, claim.job_id)
    sweep.run_once()
    second = claim_next(store, claim.job_id, token="t")
    assert second.checkpoint == told[1]
    assert claim_next(store, claim.job_id, token="t") == second
    store.release(second, is_loss=False, reason="drain")
    assert claim_next(store, claim.job_id).checkpoint == told[1]


def test_all_claims_of_a_deployment_bring_its_name(redis, store):
    """The first of all draws it, so that two deployments with one folder do not mix up their files."""
    assert store.deployment() is None
    first, second = starting(store), starting(store)
    assert first.deployment == second.deployment == store.deployment()
    redis.flushall()
    assert starting(store).deployment not in ("", first.deployment)


def test_it_is_known_which_jobs_have_a_record_still(redis, store):
    """In one call, whatever state they are in."""
    queued, ended, forgotten = submit(store), running(store), submit(store)
    store.finish(ended, SUCCESS, 1)
    forget(redis, forgotten)
    redis.zrem(keys.QUEUED(TASK), forgotten)
    assert store.kept([queued, ended.job_id, forgotten, "x"]) == {queued, ended.job_id}
    assert store.kept([]) == set()
