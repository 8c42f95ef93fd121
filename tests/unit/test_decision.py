"""What becomes of a job, from what its group told: the rules alone."""

from typing import Any

import pytest

from rankcast.gpu_worker.decision import GiveBack, decide
from rankcast.tasks.job import JobErrorInfo, Outcome
from rankcast.tasks.state import JobState

METRICS = {"run_ms": 3}


def error(kind: str) -> JobErrorInfo:
    return JobErrorInfo(kind=kind, message="boom", rank=1)


def decided(kind: str, **known: Any) -> Outcome | GiveBack:
    return decide(None, error(kind), METRICS, **known)


def test_what_the_group_told_decides():
    """An output is a success, an error says which end it is."""
    assert decide(b"1", None, METRICS) == Outcome(state=JobState.SUCCEEDED, output=b"1", metrics=METRICS)
    for kind, state in (("exception", JobState.FAILED), ("cancelled", JobState.CANCELLED)):
        assert decided(kind) == Outcome(state=state, error=error(kind), metrics=METRICS)


@pytest.mark.parametrize("kind", ["group_lost", "rank_frozen"])
def test_a_lost_group_costs_the_job_a_loss_and_no_retry(kind: str):
    """Nobody asked for retries: this is not the job's own doing."""
    assert decided(kind) == GiveBack(reason="boom", is_loss=True, error=error(kind))
    assert decided(kind, retries_left=1) == decided(kind)


def test_an_attempt_that_could_not_begin_costs_nothing():
    """The slot was not free after all."""
    assert decided("slot_not_free") == GiveBack(reason="boom")


@pytest.mark.parametrize("kind", ["exception", "exited", "setup_failed", "oom_killed", "storage_full"])
def test_what_will_likely_happen_again_is_tried_again_only_if_the_task_says_so(kind: str):
    """And only so often."""
    assert decided(kind, retries_left=1) == GiveBack(reason="boom", is_retry=True, error=error(kind))
    for left in (0, -1):
        assert isinstance(decided(kind, retries_left=left), Outcome)


@pytest.mark.parametrize("kind", ["not_encodable", "invalid_input", "run_timeout", "setup_timeout"])
def test_what_must_happen_again_is_never_tried_again(kind: str):
    """Nor is what took all the time it had."""
    assert isinstance(decided(kind, retries_left=5), Outcome)


@pytest.mark.parametrize("kind", ["group_lost", "exception"])
def test_nothing_is_tried_again_for_a_job_that_was_cancelled(kind: str):
    """Redis may have lost the flag since; this worker has seen it."""
    assert isinstance(decided(kind, retries_left=5, is_cancelled=True), Outcome)
