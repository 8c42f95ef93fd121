"""A viewer that lost the line comes back with the id of the last event it saw."""

from itertools import islice

from rankcast import Client


def test_a_viewer_that_comes_back_sees_the_rest_once(client: Client):
    job = client.submit("tutorial/countdown", start=20, pause_s=0.02)
    before = list(islice(job.stream(), 8))  # the line is cut here, while the job runs
    after = list(job.stream(last_event_id=before[-1].id))

    lefts = [event.data["left"] for event in before + after if event.is_result]
    assert lefts == list(range(20, 0, -1))


def test_who_saw_the_end_has_nothing_to_come_back_for(client: Client):
    """The server answers 204, which also tells a browser's EventSource to stop."""
    job = client.submit("tutorial/countdown", start=1)
    *_, end = job.stream()
    assert list(job.stream(last_event_id=end.id)) == []


def test_a_cursor_of_another_history_is_told_and_everything_comes_again(client: Client):
    job = client.submit("tutorial/countdown", start=2)
    job.result(timeout_s=60)
    reset, *events = job.stream(last_event_id="77777777777-3")
    assert reset.kind == "reset"
    assert [event.data["left"] for event in events if event.is_result] == [2, 1]
