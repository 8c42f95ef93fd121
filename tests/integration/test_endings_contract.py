"""How jobs end, or wait again: on a real server and on fakeredis."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import redis as redis_py
from jobs import (
    FAILURE,
    SUCCESS,
    TASK,
    Ear,
    Memory,
    append,
    claim_next,
    forget,
    ids,
    let_lease_run_out,
    running,
    starting,
    states,
    submit,
)

from rankcast.tasks import keys
from rankcast.tasks.errors import Behind, StaleAttempt, UnknownJob
from rankcast.tasks.event import START, EventId
from rankcast.tasks.job import Claim, Outcome, Renewal
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.logs import LogLine
from rankcast.tasks.state import JobState
from rankcast.tasks.store import CancelReply, JobStore


@pytest.fixture
def redis(redis_or_fake: redis_py.Redis) -> redis_py.Redis:
    return redis_or_fake


# Finish


def test_a_success_ends_the_job_with_its_output(store, event_log):
    """Record and end event change in one step."""
    claim = running(store)
    append(event_log, claim, 2, "1", "2")
    outcome = replace(SUCCESS, metrics={"run_s": 1.5})
    assert store.finish(claim, outcome, 3) is JobState.SUCCEEDED
    record = store.record(claim.job_id)
    assert (record.state, record.end_id, record.last) == (
        JobState.SUCCEEDED,
        EventId(claim.fence, 4),
        EventId(claim.fence, 4),
    )
    assert (record.metrics, record.error, store.output(claim.job_id)) == (
        {"run_s": 1.5},
        None,
        b'{"done":true}',
    )
    end = event_log.read(claim.job_id, START)[-1]
    assert (end.kind, json.loads(end.data)) == (
        "end",
        {"state": "succeeded", "attempt": 1, "output": {"done": True}},
    )


def test_a_failure_ends_the_job_with_its_error(store, event_log):
    """Also of a group that never started."""
    for claim in (starting(store), running(store)):
        assert store.finish(claim, FAILURE, 0) is JobState.FAILED
        error = {"kind": "exception", "message": "boom", "rank": 1}
        assert store.record(claim.job_id).error == error
        assert store.output(claim.job_id) is None
        *_, end = states(event_log, claim.job_id)
        assert end == {"state": "failed", "attempt": 1, "error": error}


def test_a_large_output_is_kept_beside_the_log(store, event_log):
    """The end event stays small enough for every subscriber."""
    claim = running(store)
    output = json.dumps("x" * 65536).encode()
    store.finish(claim, replace(SUCCESS, output=output), 1)
    *_, end = states(event_log, claim.job_id)
    assert end == {"state": "succeeded", "attempt": 1}
    assert store.output(claim.job_id) == output


def test_no_end_is_written_while_the_log_is_short(store, event_log):
    """What rank 0 told before it returned is in the log before `end`."""
    claim = running(store)
    append(event_log, claim, 2, "1")
    with pytest.raises(Behind) as behind:
        store.finish(claim, SUCCESS, 3)
    assert behind.value.last == 2
    assert store.record(claim.job_id).state is JobState.RUNNING
    append(event_log, claim, 3, "2")
    assert store.finish(claim, SUCCESS, 3) is JobState.SUCCEEDED


def test_a_finish_sent_twice_ends_once(store, event_log):
    """The second call, whatever it says, learns what was decided."""
    claim = running(store)
    assert store.finish(claim, FAILURE, 1) is JobState.FAILED
    assert store.finish(claim, SUCCESS, 1) is JobState.FAILED
    assert [event.kind for event in event_log.read(claim.job_id, START)].count("end") == 1


def test_a_cancel_that_was_answered_decides_the_end(store, event_log):
    """Cancel wins, whatever the outcome was and however late the flag was seen."""
    for outcome in (SUCCESS, FAILURE):
        claim = running(store)
        store.cancel(claim.job_id)
        assert store.finish(claim, outcome, 1) is JobState.CANCELLED
        assert store.output(claim.job_id) is None
        error = {"kind": "cancelled", "message": "the job was cancelled"}
        assert store.record(claim.job_id).error == error
        *_, end = states(event_log, claim.job_id)
        assert end == {"state": "cancelled", "attempt": 1, "error": error}


def test_a_worker_that_saw_the_cancel_decides_it_alone(redis, store):
    """Redis may have lost the flag since."""
    claim = running(store)
    memory = Memory(redis)
    store.cancel(claim.job_id)
    assert store.renew([claim]) == {claim.job_id: Renewal.CANCEL_REQUESTED}
    memory.come_back()
    assert store.finish(claim, Outcome(state=JobState.CANCELLED), 1) is JobState.CANCELLED
    assert store.record(claim.job_id).error["kind"] == "cancelled"


def test_a_finish_of_a_stale_attempt_is_refused(redis, store, sweep):
    """Its work was given to another; that one ends the job."""
    old = running(store)
    let_lease_run_out(redis, old.job_id)
    sweep.run_once()
    with pytest.raises(StaleAttempt):
        store.finish(old, SUCCESS, 1)
    new = running(store, old.job_id)
    with pytest.raises(StaleAttempt):
        store.finish(old, SUCCESS, 1)
    assert store.finish(new, SUCCESS, 1) is JobState.SUCCEEDED


def test_only_an_outcome_that_the_table_allows_is_written(store):
    """A group that never started cannot have succeeded, and running is no end."""
    claim = starting(store)
    with pytest.raises(ValueError, match="never started"):
        store.finish(claim, SUCCESS, 0)
    with pytest.raises(ValueError, match="cannot end as running"):
        store.finish(claim, Outcome(state=JobState.RUNNING), 0)
    assert store.record(claim.job_id).state is JobState.STARTING


def test_a_success_stands_where_the_event_that_started_it_is_lost(redis, store, event_log):
    """On a warm group that is the first of the call; whoever ends the job tells Redis of the start."""
    claim = starting(store)
    memory = Memory(redis)
    append(event_log, claim, 2, "1", "2")
    memory.come_back()
    with pytest.raises(Behind):
        store.finish(claim, SUCCESS, 3)
    assert store.start(claim) is False
    assert store.finish(claim, SUCCESS, 1, is_cut=True) is JobState.SUCCEEDED


def test_all_keys_of_an_ended_job_go_at_one_moment(redis, store, event_log, logs):
    """Also the printed lines that come after the end."""
    claim = running(store, ttl_s=100)
    append(event_log, claim, 2, "1")
    store.finish(claim, SUCCESS, 2)
    logs.append(claim.job_id, [LogLine(0, "host", "stdout", "late", 1)])
    of = JobKeys(claim.job_id)
    moments = {redis.execute_command("PEXPIRETIME", key) for key in (of.record, of.events, of.logs)}
    assert moments == {store.record(claim.job_id).ended_ms + 100_000}


# Release


def test_a_drained_job_waits_at_its_old_place(store, event_log):
    """A deploy is no fault of the job: no loss is counted, nobody overtakes it."""
    claim = running(store)
    second = submit(store)
    assert store.release(claim, is_loss=False, reason='worker "w1" drains') is JobState.QUEUED
    record = store.record(claim.job_id)
    assert (record.losses, record.attempt, record.queue_position) == (0, 1, 0)
    assert store.record(second).queue_position == 1
    *_, told = states(event_log, claim.job_id)
    assert told == {"state": "queued", "attempt": 1, "queue_position": 0, "message": 'worker "w1" drains'}


def test_a_job_that_keeps_losing_its_group_fails(store, settings):
    """Losses are capped, drains between them do not count."""
    job_id = submit(store)
    for _ in range(settings.max_losses - 1):
        assert store.release(running(store, job_id), is_loss=True, reason="SIGKILL") is JobState.QUEUED
        assert store.release(running(store, job_id), is_loss=False, reason="drain") is JobState.QUEUED
    assert store.release(running(store, job_id), is_loss=True, reason="SIGKILL") is JobState.FAILED
    record = store.record(job_id)
    assert (record.losses, record.error["kind"]) == (settings.max_losses, "worker_lost")
    assert "SIGKILL" in record.error["message"]


def test_a_release_of_a_cancelled_job_ends_it(store):
    """Nobody runs again what was cancelled."""
    for is_loss in (True, False):
        claim = running(store)
        store.cancel(claim.job_id)
        assert store.release(claim, is_loss=is_loss, reason="drain") is JobState.CANCELLED


@pytest.mark.parametrize("how", ["drained", "lost", "swept", "cancelled when its lease ran out"])
def test_an_event_between_attempts_takes_no_number_of_rank_0(redis, store, event_log, sweep, how):
    """A restart may lose it while rank 0 lives and goes on: a viewer's cursor must not fit what follows."""
    claim = running(store)
    memory = Memory(redis)
    match how:
        case "drained" | "lost":
            store.release(claim, is_loss=how == "lost", reason="drain")
        case "swept":
            let_lease_run_out(redis, claim.job_id)
            assert sweep.run_once().leases == 1
        case _:
            let_lease_run_out(redis, claim.job_id)
            store.cancel(claim.job_id)
    seen = ids(event_log, claim.job_id)[-1]
    memory.come_back()
    append(event_log, claim, 2, *["1"] * 10)
    assert event_log.locate(claim.job_id, seen).notice == "reset"
    store.finish(claim, SUCCESS, 11)


def test_a_release_sent_twice_gives_back_once(store, event_log):
    """Also when the reply was lost and another has claimed the job since: that one keeps it."""
    claim = running(store)
    store.release(claim, is_loss=True, reason="SIGKILL")
    assert store.release(claim, is_loss=True, reason="SIGKILL") is JobState.QUEUED
    assert (store.record(claim.job_id).losses, len(ids(event_log, claim.job_id))) == (1, 3)
    second = starting(store, claim.job_id)
    assert store.release(claim, is_loss=True, reason="SIGKILL") is JobState.QUEUED
    assert store.renew([second]) == {claim.job_id: Renewal.OWNED}
    assert (store.record(claim.job_id).losses, len(ids(event_log, claim.job_id))) == (1, 4)
    store.release(second, is_loss=False, reason="drain")
    starting(store, claim.job_id)
    assert store.release(claim, is_loss=True, reason="SIGKILL") is JobState.QUEUED
    assert (store.record(claim.job_id).losses, len(ids(event_log, claim.job_id))) == (1, 6)


def test_a_release_of_a_job_that_was_taken_and_claimed_is_refused(redis, store, sweep):
    """It is no repeat: another gave the job back."""
    claim = running(store)
    let_lease_run_out(redis, claim.job_id)
    assert sweep.run_once().leases == 1
    assert store.release(claim, is_loss=True, reason="SIGKILL") is JobState.QUEUED
    starting(store, claim.job_id)
    with pytest.raises(StaleAttempt):
        store.release(claim, is_loss=True, reason="SIGKILL")
    assert store.record(claim.job_id).losses == 1


def test_a_release_that_ended_its_job_and_is_sent_twice_says_so_again(store, event_log):
    """Of a job whose cancel was asked for."""
    claim = running(store)
    store.cancel(claim.job_id)
    for _ in range(2):
        assert store.release(claim, is_loss=False, reason="drain") is JobState.CANCELLED
    assert len(ids(event_log, claim.job_id)) == 3


# Cancel


def test_a_queued_job_that_is_cancelled_ends_at_once(store, event_log):
    """Nobody works on it, so nobody needs to be asked."""
    job_id = submit(store)
    assert store.cancel(job_id) == CancelReply(JobState.CANCELLED, is_ended=False)
    assert (store.queued_count(TASK), claim_next(store, job_id)) == (0, None)
    first, end = event_log.read(job_id, START)
    assert (end.kind, end.id.seq, end.prev) == ("end", 1, first.id)


@pytest.mark.parametrize("begin", [starting, running])
def test_a_claimed_job_that_is_cancelled_is_told_to_its_worker(
    store: JobStore, hear: Callable[[str], Ear], begin: Callable[..., Claim]
):
    """A flag for every reply to come, and a word on the channel that the worker hears."""
    claim = begin(store)
    ear = hear(keys.CONTROL(claim.worker))
    state = store.record(claim.job_id).state
    assert store.cancel(claim.job_id) == CancelReply(state, is_ended=False)
    assert store.record(claim.job_id).is_cancel_requested
    assert ear.messages() == [f"cancel {claim.job_id}".encode()]


def test_a_cancel_ends_a_job_whose_lease_ran_out(redis, store, event_log):
    """Its worker may be dead; the answer does not wait for a sweep."""
    claim = running(store)
    let_lease_run_out(redis, claim.job_id)
    assert store.cancel(claim.job_id) == CancelReply(JobState.CANCELLED, is_ended=False)
    with pytest.raises(StaleAttempt):
        append(event_log, claim, 2, "1")
    assert store.finish(claim, SUCCESS, 1) is JobState.CANCELLED


def test_a_cancel_of_an_ended_job_changes_nothing(store, event_log):
    """And says how it ended."""
    claim = running(store)
    store.finish(claim, SUCCESS, 1)
    before = ids(event_log, claim.job_id)
    assert store.cancel(claim.job_id) == CancelReply(JobState.SUCCEEDED, is_ended=True)
    assert ids(event_log, claim.job_id) == before


# Jobs that are gone


def test_nothing_that_is_done_to_a_forgotten_job_brings_it_back(redis, store, event_log, logs):
    """A late write would make a key that never goes."""
    claim = running(store)
    forget(redis, claim.job_id)
    line = LogLine(0, "host", "stdout", "late", 1)
    for refused in (
        lambda: append(event_log, claim, 2, "1"),
        lambda: store.start(claim),
        lambda: store.finish(claim, SUCCESS, 1),
        lambda: store.release(claim, is_loss=True, reason="SIGKILL"),
        lambda: store.cancel(claim.job_id),
        lambda: store.record(claim.job_id),
        lambda: store.output(claim.job_id),
        lambda: event_log.position(claim.job_id),
        lambda: event_log.locate(claim.job_id, None),
        lambda: logs.append(claim.job_id, [line]),
    ):
        with pytest.raises(UnknownJob):
            refused()
    assert store.renew([claim]) == {claim.job_id: Renewal.LOST}
    assert event_log.read(claim.job_id, START) == []
    assert redis.keys(f"{JobKeys(claim.job_id).record}*") == []


def test_an_append_never_makes_a_log(redis, store, event_log):
    """A log that somebody deleted beside its record would begin anew, with a hole."""
    claim = running(store)
    redis.delete(JobKeys(claim.job_id).events)
    with pytest.raises(UnknownJob):
        append(event_log, claim, 2, "1")
    assert not redis.exists(JobKeys(claim.job_id).events)
