"""A rank fails while the others wait for it: the job ends at once, and says who and why."""

import pytest

from rankcast import Client, InvalidInput, JobFailed, UnknownTask


def test_the_error_names_the_rank_and_what_it_raised(client: Client):
    with pytest.raises(JobFailed) as failure:
        client.submit("tutorial/fragile").result(timeout_s=60)
    error = failure.value.error
    assert error["rank"] == 1
    assert error["type"] == "ValueError"
    assert error["message"] == "these weights are not mine"
    assert "raise ValueError" in error["traceback"]


def test_the_next_job_on_the_slot_works(client: Client):
    with pytest.raises(JobFailed):
        client.submit("tutorial/fragile").result(timeout_s=60)
    assert client.submit("tutorial/countdown").result(timeout_s=60)["world_size"] == 2


def test_input_that_does_not_fit_is_refused_before_anything_is_queued(client: Client):
    """The signature of `__call__` is the schema."""
    with pytest.raises(InvalidInput, match="start") as refusal:
        client.submit("tutorial/countdown", {"start": "three", "strat": 3})
    assert {fault.path for fault in refusal.value.faults} == {"$.start", "$.strat"}


def test_a_task_that_nobody_serves_is_unknown(client: Client):
    with pytest.raises(UnknownTask, match="tutorial/countdown"):
        client.submit("tutorial/countdwon")
