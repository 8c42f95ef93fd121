"""Event ids, and what readers are told that no log holds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankcast.tasks.event import START, EventId, gap, reset

NUMBERS = st.integers(0, 2**63 - 1)
IDS = st.builds(EventId, NUMBERS, NUMBERS)


@given(IDS)
def test_an_id_reads_back_as_written(event_id: EventId):
    """As text and as Redis' bytes."""
    assert EventId.parse(str(event_id)) == event_id
    assert EventId.parse(str(event_id).encode()) == event_id


@given(IDS, IDS)
def test_ids_compare_as_redis_compares_them(one: EventId, other: EventId):
    """By fence, then by seq, as numbers and not as text."""
    assert (one < other) == ((one.fence, one.seq) < (other.fence, other.seq))


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "1", "-", "1-", "-1", "1-2-3", "01-1", "1-01", "+1-1", " 1-1", "1-1\n", "1 -1", "١-1"),
        *("-1-1", "1--1", "1-*", "$", "a-b", "9223372036854775808-0", "0-9223372036854775808", "1" * 9999),
    ],
)
def test_what_redis_would_not_take_is_no_id(text: str):
    """One way to write an id, so that equal ids are equal text."""
    with pytest.raises(ValueError, match="not an event id"):
        EventId.parse(text)


@given(st.text() | st.binary())
def test_any_text_is_an_id_or_a_value_error(text: str | bytes):
    """A cursor comes from outside."""
    try:
        event_id = EventId.parse(text)
    except ValueError:
        return
    assert str(event_id) == (text if isinstance(text, str) else text.decode())


def test_a_gap_and_a_reset_tell_where_the_reader_goes_on():
    """Their id is that of the entry before the next one, so that coming back with it repeats neither."""
    missed = gap(EventId(0, 1), EventId(7, 3))
    assert (str(missed.id), missed.kind) == ("7-3", "gap")
    assert json.loads(missed.data) == {"after": "0-1", "to": "7-3"}
    again = reset(START)
    assert (str(again.id), again.kind) == ("0-0", "reset")
    assert "not of this job's log" in json.loads(again.data)["message"]
