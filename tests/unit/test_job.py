"""Ids, tokens and the small records around a job."""

import re

import pytest

from rankcast.tasks.job import JobErrorInfo, Outcome, new_job_id, new_token, option_faults
from rankcast.tasks.state import JobState


def test_ids_and_tokens_are_random_and_fit_everywhere():
    """URL, file name and command line; 128 and 64 bits."""
    ids, tokens = {new_job_id() for _ in range(1000)}, {new_token() for _ in range(1000)}
    assert len(ids) == len(tokens) == 1000
    assert all(re.fullmatch(r"[0-9a-f]{32}", job_id) for job_id in ids)
    assert all(re.fullmatch(r"[0-9a-f]{16}", token) for token in tokens)


def test_an_error_tells_what_is_known_and_nothing_else():
    """Rank 0 and exit code 0 are known; None is not."""
    assert JobErrorInfo(kind="exited", message="rank 0 left", rank=0, exitcode=0).as_dict() == {
        "kind": "exited",
        "message": "rank 0 left",
        "rank": 0,
        "exitcode": 0,
    }


def test_outcomes_do_not_share_their_metrics():
    """A default that one attempt fills would show in the next."""
    first, second = Outcome(state=JobState.FAILED), Outcome(state=JobState.FAILED)
    first.metrics["steps"] = 1
    assert second.metrics == {}


@pytest.mark.parametrize(
    "options",
    [{}, {"timeout_s": None}, {"priority": 0, "timeout_s": 0.5, "start_timeout_s": 1, "ttl_s": 60}],
)
def test_options_that_mean_something_have_no_faults(options):
    """None leaves a time to the task, where the task has one."""
    assert list(option_faults(options)) == []


@pytest.mark.parametrize("seconds", [0, -1, True, "5", float("nan"), float("inf"), 1e12])
@pytest.mark.parametrize("name", ["timeout_s", "total_timeout_s", "start_timeout_s", "ttl_s"])
def test_a_time_that_could_not_be_kept_is_a_fault(name, seconds):
    """0 is no time and no limit either: whoever writes it must not get the task's default in silence."""
    assert [fault for fault, _ in option_faults({name: seconds})] == [name]


@pytest.mark.parametrize("options", [{"priority": 10}, {"priority": -1}, {"priority": True}, {"prio": 1}])
def test_a_priority_that_is_none_and_a_word_that_nobody_knows_are_faults(options):
    assert [fault for fault, _ in option_faults(options)] == list(options)


def test_only_the_time_that_a_task_can_set_may_be_left_out_as_none():
    """A task limits its attempts; it says nothing of waiting and keeping."""
    assert [fault for fault, _ in option_faults({"ttl_s": None, "start_timeout_s": None})] == [
        "start_timeout_s",
        "ttl_s",
    ]
