"""A task is tested like any class: run in the test's own process, or on real ranks, without a server."""

import pytest
from fundamentals.tutorial import Climb, Countdown, Fragile, Gallery, Patient

from rankcast import InvalidInput, JobFailed
from rankcast.testing import run, warm


def test_a_run_has_the_events_and_the_output():
    """In this process: quick, and a debugger stops in the task's own lines."""
    ran = run(Countdown, start=3)
    assert [told["left"] for told in ran.results] == [3, 2, 1]
    assert ran.output == {"sum_of_ranks": 0, "world_size": 1}


def test_values_come_as_a_viewer_gets_them():
    assert run(Gallery).output["content_type"] == "image/jpeg"


def test_what_a_submit_would_refuse_is_refused():
    with pytest.raises(InvalidInput, match="must be an integer"):
        run(Countdown, start="three")


def test_the_ranks_of_a_group_can_be_real():
    """Two processes over gloo; what goes wrong between them goes wrong here."""
    with pytest.raises(JobFailed) as failure:
        run(Fragile, ranks=2)
    assert (failure.value.error["rank"], failure.value.error["type"]) == (1, "ValueError")


def test_a_cancel_can_be_tried():
    """After so many events; the task stops where it asks."""
    ran = run(Patient, cancel_after=1)
    assert ran.state == "cancelled"
    assert [line.text for line in ran.logs] == ["[rank 0] I was told to stop"]


def test_what_an_attempt_saved_can_be_gone_on_from():
    """`warm` keeps the task between two runs."""
    with warm(Climb) as climb:
        first = climb.run(height=2, slips_at=9)
        second = climb.run(height=5, slips_at=9, last_checkpoint=first.checkpoints[-1])
    assert [told["step"] for told in second.results] == [3, 4, 5]
    assert second.output == {"began_at": 2, "sum_of_steps": 15}
