"""Two clocks on one axis, as `rankcast submit --trace` shows them."""

import pytest

from rankcast import Event
from rankcast.cli.traced import Seen
from rankcast.cli.way import merged

TIMINGS = {"posted": 0.0, "created": 1.0, "published": 5.0, "ended": 7.0}


def test_what_a_server_tells_stands_in_the_middle_of_where_it_can_be():
    """Early enough for the answer, and by so much as that leaves open it says how well it knows."""
    way = merged({"sent": 0.0, "answered": 3.0, "delivered": 9.0, "end_delivered": 10.0}, TIMINGS)
    assert way.within_ms == 1
    assert list(way.moments.items()) == [
        ("sent", 0),
        ("posted", 1),
        ("created", 2),
        ("answered", 3),
        ("published", 6),
        ("ended", 8),
        ("delivered", 9),
        ("end_delivered", 10),
    ]


@pytest.mark.parametrize("late", ["answered", "delivered", "end_delivered"])
def test_nothing_arrives_before_it_was_written(late: str):
    """Whichever arrived soonest decides."""
    soon = {"answered": 1.5, "delivered": 5.5, "end_delivered": 7.5}
    way = merged({"sent": 0.0} | soon | {late: 100.0}, TIMINGS)
    assert way.within_ms == 0.25


def test_what_seems_to_arrive_too_early_stands_behind_what_it_is_of():
    """Redis counts whole milliseconds: a hop that took less may come out below 0."""
    way = merged({"sent": 0.0, "answered": 1.0, "end_delivered": 6.5}, {"created": 0.0, "ended": 7.0})
    assert way == ({"sent": 0, "created": 0, "answered": 1, "end_delivered": 6.5, "ended": 7}, 0)


def test_a_client_has_the_first_event_of_the_newest_attempt():
    """As the record has its moments."""
    seen = Seen()
    for kind, data in (("state", {"state": "queued"}), ("state", {"state": "starting"}), ("", 1)):
        seen.take(Event("1-1", kind, data))
    assert list(seen.moments) == ["sent", "watching", "delivered"]
    first = seen.moments["delivered"]
    seen.take(Event("1-2", "", 2))
    assert seen.moments["delivered"] == first
    seen.take(Event("2-1", "state", {"state": "starting", "attempt": 2}))
    assert list(seen.moments) == ["sent", "watching"]
    seen.take(Event("2-2", "end", {"state": "failed"}))
    assert list(seen.moments) == ["sent", "watching", "end_delivered"]
