"""A job can be cancelled at any time, and its ranks stop together."""

import pytest

from rankcast import Client, JobCancelled


def test_a_running_job_stops_where_it_asks(client: Client):
    """`should_stop()` gives the same answer on every rank, so none is left in a collective."""
    job = client.submit("tutorial/patient")
    stream = job.stream()
    next(event for event in stream if event.data == "working")
    job.cancel()
    *_, end = stream
    assert end.data["state"] == "cancelled"
    lines = {line.text for line in job.logs()}
    assert {"[rank 0] I was told to stop", "[rank 1] I was told to stop"} <= lines


def test_a_queued_job_ends_without_ever_starting(client: Client):
    running = client.submit("tutorial/patient")
    waiting = client.submit("tutorial/patient")
    assert waiting.cancel() == "cancelled"
    assert [event.kind for event in waiting.stream()] == ["state", "end"]
    running.cancel()


def test_the_result_of_a_cancelled_job_is_an_exception(client: Client):
    job = client.submit("tutorial/patient")
    job.cancel()
    with pytest.raises(JobCancelled) as cancelled:
        job.result(timeout_s=60)
    assert cancelled.value.error["kind"] == "cancelled"
