"""What goes over a job's live channel, and comes to its viewers as it is."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankcast.tasks.event import END, RESULT, START, STATE, Event, EventId
from rankcast.tasks.live import MAX_PUBLISHED, Batch, decode_batch, encode_batch, frame

NUMBERS = st.integers(0, 2**63 - 1)
IDS = st.builds(EventId, NUMBERS, NUMBERS)
KINDS = st.sampled_from([RESULT, STATE, END, "preview"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())


@st.composite
def batches(draw: st.DrawFn) -> list[Event]:
    """Each event knows the one before it."""
    ids = draw(st.lists(IDS, min_size=2, max_size=6, unique=True))
    return [Event(this, prev, draw(KINDS), draw(JSON)) for prev, this in pairwise(ids)]


def result(data: bytes) -> Event:
    return Event(EventId(7, 3), EventId(7, 2), RESULT, data)


def test_an_event_without_data_is_sent_as_null() -> None:
    """A `data:` line with nothing behind it is no JSON."""
    assert frame(result(b"")) == b"id: 7-3\ndata: null\n\n"


@given(batches())
def test_a_batch_reads_back_as_written(events: list[Event]) -> None:
    """Ids, kinds and data, and its frames are those of its events."""
    batch = decode_batch(encode_batch(events))
    assert batch.events == events
    assert batch.frames == b"".join(map(frame, events))
    assert (batch.prev, batch.last) == (events[0].prev, events[-1].id)
    assert batch.has_end == (events[-1].kind == END)


@given(batches(), st.data())
def test_what_follows_a_cursor_is_a_batch_of_it(events: list[Event], data: st.DataObject) -> None:
    """That of any event but the last, and the one before the first."""
    batch, index = Batch.of(events), data.draw(st.integers(0, len(events) - 1))
    rest = batch.after(events[index].prev)
    assert rest is not None
    assert rest.events == events[index:]
    assert (rest.prev, rest.last, rest.has_end) == (events[index].prev, batch.last, batch.has_end)
    assert batch.after(batch.last) is None


def test_an_id_in_the_data_of_an_event_is_none_of_the_batch() -> None:
    """Nor is the half of one."""
    texts = [b'"id: 1-1"', b"\n\nid: 1-1\n\n", b"[\r\n\r\nid: 1-1\n2]"]
    batch = Batch.of(
        [Event(EventId(1, n), EventId(1, n - 1), RESULT, text) for n, text in enumerate(texts, 11)]
    )
    assert batch.after(EventId(1, 1)) is None
    assert len(batch.events) == 3


def test_a_batch_with_a_large_event_is_its_place_alone() -> None:
    """The reader finds it in the log."""
    fits, too_large = (Event(EventId(0, 1), START, END, b"1" * (MAX_PUBLISHED + more)) for more in (0, 1))
    assert decode_batch(encode_batch([fits])).events == [fits]
    batch = decode_batch(encode_batch([too_large]))
    assert (batch.prev, batch.last, batch.has_end, batch.frames) == (START, EventId(0, 1), True, b"")


@pytest.mark.parametrize(
    "message",
    [
        *(b"", b"x", b"0-0\n", b"0-0 0-1\n", b"0-0 0-1 x\n", b"0-0 1 0\n", b"x 0-1 0\n", b"0-0 0-1 0 0\n"),
        *(b"0-0 0-1 0\nx", b"0-0 0-1 0\nid: 0-1\ndata: 1\n", b"0-0\n0-1\t\t1", b"\xff\xfe"),
    ],
)
def test_what_is_no_batch_is_a_value_error(message: bytes) -> None:
    """A stranger may publish anything."""
    with pytest.raises(ValueError):
        decode_batch(message)


@given(st.binary())
def test_any_bytes_are_a_batch_or_a_value_error(message: bytes) -> None:
    try:
        decode_batch(message)
    except ValueError:
        return


def test_a_result_has_an_id_and_one_data_line() -> None:
    """What a user streams needs no `event:` line: EventSource gives it to `onmessage`."""
    assert frame(result(b'{"step":1}')) == b'id: 7-3\ndata: {"step":1}\n\n'


def test_every_other_kind_is_named() -> None:
    """State and end are told apart from results by EventSource's own means."""
    assert frame(result(b"{}")._replace(kind=STATE)) == b"id: 7-3\nevent: state\ndata: {}\n\n"
    assert frame(result(b"{}")._replace(kind=END)).startswith(b"id: 7-3\nevent: end\n")


@given(texts=st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_bytes_that_are_no_json_still_cannot_end_a_frame(texts: list[bytes]) -> None:
    """Whatever a log holds, no event can forge another's id or kind."""
    raw = Batch.of(
        [Event(EventId(1, n + 1), EventId(1, n), RESULT, text) for n, text in enumerate(texts)]
    ).frames
    assert raw.count(b"\n\n") == len(texts)
    assert raw.count(b"\n") == 3 * len(texts)
