"""A job is submitted, and its events arrive while it runs."""

from rankcast import Client


def test_a_job_tells_its_states_its_results_and_its_end(client: Client):
    """`kind` is empty for what the task streamed; the last event is always `end`."""
    job = client.submit("tutorial/countdown", {"start": 3})
    events = list(job.stream())

    assert [event.data["left"] for event in events if event.is_result] == [3, 2, 1]
    assert [event.data["state"] for event in events if event.kind == "state"] == [
        "queued",
        "starting",
        "running",
    ]
    assert events[-1].kind == "end"
    assert events[-1].data["state"] == "succeeded"


def test_the_output_is_what_rank_0_returned(client: Client):
    job = client.submit("tutorial/countdown", start=1)
    assert job.result(timeout_s=60) == {"sum_of_ranks": 1, "world_size": 2}


def test_the_record_says_how_far_a_job_is(client: Client):
    job = client.submit("tutorial/countdown", start=4)
    job.result(timeout_s=60)
    record = job.record()
    assert record["state"] == "succeeded"
    assert record["attempt"] == 1
    assert record["progress"] == {"progress": 0.75}
    assert record["created_at"] <= record["started_at"] <= record["ended_at"]


def test_the_second_job_finds_its_group_warm(client: Client):
    """The first job of a task loads it; the next ones start at once."""
    client.submit("tutorial/countdown").result(timeout_s=60)
    events = list(client.submit("tutorial/countdown").stream())
    starting = next(event for event in events if event.data.get("state") == "starting")
    assert "loading" not in starting.data
