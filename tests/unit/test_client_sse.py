"""The client's reading of server-sent events: bytes in, messages out."""

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from rankcast.sse import Message, Parser

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def parse(*chunks: bytes) -> list[Message]:
    parser = Parser()
    return [message for chunk in chunks for message in parser.feed(chunk)]


def test_an_event_has_its_id_its_kind_and_its_data():
    """The frame that the web tier sends, read back."""
    assert parse(b'id: 3-1\nevent: state\ndata: {"state":"queued"}\n\n') == [
        Message("3-1", "state", b'{"state":"queued"}')
    ]


def test_an_unfinished_event_waits_for_its_blank_line():
    """A cut in the middle of an event loses nothing and gives nothing twice."""
    parser = Parser()
    assert list(parser.feed(b"id: 1-1\ndata: 1\n")) == []
    assert [m.data for m in parser.feed(b"\ndata: 2")] == [b"1"]
    assert [m.data for m in parser.feed(b"\n\n")] == [b"2"]


def test_a_keepalive_is_no_event_in_either_of_its_forms():
    """A comment with a blank line behind it would be a ghost event to other readers, not here."""
    assert parse(b"id: 1-1\ndata: 1\n\n", b":\n", b":\n\n", b"data: 2\n\n") == [
        Message("1-1", "", b"1"),
        Message("1-1", "", b"2"),
    ]


def test_a_kind_lasts_for_one_event_and_an_id_until_the_next():
    """An event without an id, such as a gap, must not move the cursor."""
    assert parse(b"id: 1-1\nevent: state\ndata: 1\n\ndata: 2\n\n") == [
        Message("1-1", "state", b"1"),
        Message("1-1", "", b"2"),
    ]


def test_the_reconnection_time_is_known_as_soon_as_its_line_is_there():
    """A server that is about to go says it last, without a blank line behind it."""
    parser = Parser()
    list(parser.feed(b"retry: x\ndata: 1\n\n"))
    assert parser.retry_ms is None
    list(parser.feed(b"retry: 1500\n"))
    assert parser.retry_ms == 1500


def test_several_data_lines_are_one_event_with_newlines_between():
    """The standard's rule, for servers that use it."""
    assert parse(b"data: [1,\ndata:  2]\r\n\r\n") == [Message("", "", b"[1,\n 2]")]


def test_a_byte_order_mark_and_unknown_fields_are_passed_over():
    """HTML 9.2.6: one leading mark is dropped, unknown fields are ignored."""
    assert parse(b"\xef\xbb\xbfdata: 1\nfoo: bar\nbaz\nid: a\0b\n\n") == [Message("", "", b"1")]


def test_line_separators_inside_a_json_string_do_not_end_a_line():
    """U+2028, U+0085 and their like are characters; text-based line splitters break on them."""
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg"
    data = json.dumps(text, ensure_ascii=False).encode()
    (message,) = parse(b"data: " + data + b"\n\n")
    assert json.loads(message.data) == text


@given(values=st.lists(JSON, max_size=5), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_the_messages_do_not_depend_on_where_the_chunks_were_cut(values, cuts):
    """TCP cuts anywhere: inside a character, between the two newlines."""
    frames = [
        b"id: 1-%d\ndata: " % n + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"
        for n, value in enumerate(values, start=1)
    ]
    stream = b"".join(frames)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    messages = parse(*[stream[a:b] for a, b in itertools.pairwise(edges)])
    assert [m.id for m in messages] == [f"1-{n}" for n in range(1, len(values) + 1)]
    assert [json.loads(m.data) for m in messages] == values
