"""What is on the wire beside the frames of events, and in them."""

import orjson
from hypothesis import given
from hypothesis import strategies as st
from web_tier import frames_of

from rankcast.tasks.event import RESULT, Event, EventId
from rankcast.tasks.live import frame
from rankcast.web import sse

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def event(data: bytes) -> Event:
    return Event(EventId(7, 3), EventId(7, 2), RESULT, data)


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
    (found,) = frames_of(sse.retry(1500) + frame(event(b"1")))
    assert found.data == "1"


@given(value=json_values, indent=st.booleans(), line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_json_stays_one_data_field(value: object, indent: bool, line_end: bytes) -> None:
    """Line ends inside strings are escaped, those between tokens become spaces: same value, one line."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0).replace(b"\n", line_end)
    for raw in (frame(event(text)), sse.data_frame(text)):
        (found,) = frames_of(raw)
        assert found.json == value
        assert raw.count(b"\n") == raw[:-2].count(b"\n") + 2
        assert b"\r" not in raw
