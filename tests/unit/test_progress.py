"""What of an event is the progress of its job."""

import pytest

from rankcast.gpu_worker.progress import progress_of, said_of


@pytest.mark.parametrize(
    "event",
    [
        {"progress": 0.5, "x": 1},
        {"step": 3, "message": "x" * 300, "total": None},
        {"step": [1]},
        {"message": "hello"},
        {"step": None, "message": "hello"},
        [1],
        "step",
    ],
)
def test_what_an_event_said_has_the_progress_of_the_event(event):
    assert progress_of(said_of(event)) == progress_of(event)


def test_what_an_event_said_does_not_change_with_it():
    event = {"step": 1}
    said = said_of(event)
    event["step"] = 2
    assert progress_of(said) == {"step": 1}
