"""One line an event, as `rankcast watch` writes it."""

from typing import Any

import pytest

from rankcast import Event
from rankcast.cli.watch import told

CHECKPOINT = {"path": "j/1/save-3/c.pt", "attempt": 1, "step": 3}


@pytest.mark.parametrize(
    ("kind", "data", "line"),
    [
        ("checkpoint", CHECKPOINT, "checkpoint path=j/1/save-3/c.pt attempt=1 step=3"),
        ("", {"step": 3, "total": 6}, " 50% step 3/6"),
        (
            "state",
            {"state": "running", "attempt": 2, "message": "starts anew"},
            "running attempt=2 message=starts anew",
        ),
    ],
)
def test_an_event_is_one_line(kind: str, data: Any, line: str):
    """A checkpoint does not look like a result."""
    assert told(Event("1-1", kind, data)) == line
