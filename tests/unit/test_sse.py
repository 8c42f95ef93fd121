"""How an event looks on the wire."""

import orjson
from hypothesis import given
from hypothesis import strategies as st
from web_tier import frames_of

from rankcast.tasks.event import END, RESULT, STATE, Event, EventId
from rankcast.web import sse

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def event(data: bytes, kind: str = RESULT) -> Event:
    return Event(EventId(7, 3), EventId(7, 2), kind, data)


def test_a_result_has_an_id_and_one_data_line() -> None:
    """What a user streams needs no `event:` line: EventSource gives it to `onmessage`."""
    assert sse.frame(event(b'{"step":1}')) == b'id: 7-3\ndata: {"step":1}\n\n'


def test_every_other_kind_is_named() -> None:
    """State and end are told apart from results by EventSource's own means."""
    assert sse.frame(event(b"{}", STATE)) == b"id: 7-3\nevent: state\ndata: {}\n\n"
    assert sse.frame(event(b"{}", END)).startswith(b"id: 7-3\nevent: end\n")


def test_a_direct_frame_is_one_data_line() -> None:
    """A reader of a few lines needs to know `data: ` and blank lines, nothing else."""
    assert sse.data_frame(b'{"step":1}') == b'data: {"step":1}\n\n'


def test_a_keepalive_fits_its_kind_of_stream() -> None:
    """With ids no blank line, which is an event to httpx-sse; without ids a block of its own."""
    assert sse.KEEPALIVE == b":\n"
    assert sse.KEEPALIVE_WITHOUT_IDS == b":\n\n"


def test_the_retry_line_belongs_to_the_frame_after_it() -> None:
    """`retry:` alone between blank lines is an event without data to some clients."""
    assert not sse.retry(1500).endswith(b"\n\n")
    (frame,) = frames_of(sse.retry(1500) + sse.frame(event(b"1")))
    assert frame.data == "1"


@given(value=json_values, indent=st.booleans(), line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_json_stays_one_data_field(value: object, indent: bool, line_end: bytes) -> None:
    """Line ends inside strings are escaped, those between tokens become spaces: same value, one line."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0).replace(b"\n", line_end)
    for raw in (sse.frame(event(text)), sse.data_frame(text)):
        (frame,) = frames_of(raw)
        assert frame.json == value
        assert raw.count(b"\n") == raw[:-2].count(b"\n") + 2
        assert b"\r" not in raw


@given(texts=st.lists(st.binary(max_size=20), max_size=5))
def test_bytes_that_are_no_json_still_cannot_end_a_frame(texts: list[bytes]) -> None:
    """Whatever a log holds, no event can forge another's id or kind."""
    events = [Event(EventId(1, n + 1), EventId(1, n), RESULT, text) for n, text in enumerate(texts)]
    raw = sse.frames(events)
    assert raw.count(b"\n\n") == len(events)
    assert raw.count(b"\n") == 3 * len(events)
