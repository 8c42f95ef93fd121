"""A rank is lost in the middle: the job runs again, and goes on from its last checkpoint."""

from rankcast import Client


def test_the_next_attempt_goes_on_where_the_last_one_saved(client: Client):
    """`save_checkpoint` in the task's loop, `last_checkpoint` before it: no more is needed."""
    job = client.submit("tutorial/climb", {"height": 5, "slips_at": 3})
    events = list(job.stream())

    steps = [event.data["step"] for event in events if event.is_result]
    assert steps == [1, 2, 3, 4, 5]
    assert job.result() == {"began_at": 3, "sum_of_steps": 2 * (1 + 2 + 3 + 4 + 5)}


def test_the_stream_tells_of_it(client: Client):
    """What was saved, that a rank was lost, and from where the second attempt goes on."""
    job = client.submit("tutorial/climb", {"height": 3, "slips_at": 2})
    events = list(job.stream())

    saved = [event.data for event in events if event.kind == "checkpoint"]
    assert [told["step"] for told in saved] == [1, 2, 3]
    states = [event.data for event in events if event.kind == "state"]
    assert [told["state"] for told in states] == [
        "queued",
        *("starting", "running", "queued"),
        *("starting", "running"),
    ]
    assert states[3]["error"]["kind"] == "group_lost"
    assert states[5]["resumes_from"] == saved[1]
    assert job.record()["checkpoint"] == saved[2]
