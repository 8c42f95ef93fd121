"""What a rank prints is cut into lines, whatever it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankcast.gpu_worker.ranklog import MAX_LINE_BYTES, Lines


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"o", b"ne\nt", b"wo"], ["one", "two"]),
        ([b"a\n\nb\n"], ["a", "", "b"]),
        ([b"dos\r", b"\nline\r\n"], ["dos", "line"]),
        ([b"\r 10%", b"\r 20%", b"\r 30%\n"], [" 10%", " 20%", " 30%"]),
        ([b"\xff\xfe\n"], ["��"]),
        ("grün\n".encode().partition(b"\xbc"), ["grün"]),
        ([b""], []),
    ],
)
def test_lines_end_where_a_terminal_would_end_them(pieces, lines):
    """A progress bar rewrites its line with carriage returns: each state is one line."""
    cut = Lines()
    assert [line for piece in pieces for line in cut.feed(piece)] + cut.end() == lines


def test_a_line_without_end_is_cut():
    """So that it cannot fill the memory; never inside a character."""
    text = "é" * MAX_LINE_BYTES
    cut = Lines()
    lines = cut.feed(b"x" + text.encode()) + cut.end()
    assert "".join(lines) == "x" + text
    assert all(len(line.encode()) <= MAX_LINE_BYTES for line in lines)


@given(st.lists(st.binary(max_size=30), max_size=20))
def test_nothing_is_lost_and_pieces_do_not_matter(pieces):
    """Cutting the whole or its pieces gives the same lines."""
    whole, parts = Lines(), Lines()
    data = b"".join(pieces)
    expected = whole.feed(data) + whole.end()
    assert [line for piece in pieces for line in parts.feed(piece)] + parts.end() == expected
    visible = data.replace(b"\r", b"").replace(b"\n", b"").decode(errors="replace")
    assert sum(map(len, expected)) >= len(visible) - 4 * len(pieces)
