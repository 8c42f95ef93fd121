"""Who is let in as somebody before: only who asks in the same words."""

import pytest

from rankcast.web.admissions import IDLE, MOST, Admission, Admissions, admission, asked

LINE = b"GET /jobs/j-1/stream HTTP/1.1"
PLAIN = (b"Host: localhost:8700", b"Accept: text/event-stream", b"Authorization: Key rk_1")
LET_IN = Admission(b"", b"", None)


def head(*fields: bytes, line: bytes = LINE) -> bytes:
    return b"\r\n".join([line, *PLAIN, *fields]) + b"\r\n\r\n"


def test_a_plain_request_is_its_words_and_its_cursor() -> None:
    found = asked(head())
    assert found == ("j-1", head(), None, len(head()))
    again = asked(head(b"Last-Event-ID: 3-14"))
    assert again == ("j-1", head(), "3-14", len(head(b"Last-Event-ID: 3-14")))


@pytest.mark.parametrize("name", IDLE)
def test_what_decides_nothing_may_differ(name: str) -> None:
    for field in (f"{name}: one; two=\t(three)", f"{name.lower()}: ", f"{name.upper()}: x"):
        found = asked(head(field.encode(), b"last-event-id: 1-2"))
        assert found is not None
        assert (found.words, found.cursor) == (head(), "1-2")


@pytest.mark.parametrize(
    "other",
    [
        head(b"X-Forwarded-Proto: https"),
        head(b"Origin: https://a.example"),
        head(b"Sec-Fetch-Site: cross-site"),
        # No space, or two: not as all write it, so it is not taken for the same.
        head(b"User-Agent:x"),
        head(b"X-User-Agent: x"),
        head(line=LINE.replace(b"j-1", b"j-2")),
    ],
)
def test_all_else_is_compared(other: bytes) -> None:
    found = asked(other)
    assert found is not None
    assert found.words != head()


@pytest.mark.parametrize(
    "other",
    [
        b"",
        head()[:-2],
        head()[:-4],
        head() + b"x",
        head() + head(),
        head(*[b"DNT: "] * 150),
        head(line=LINE.replace(b"GET", b"HEAD")),
        head(line=LINE.replace(b"1.1", b"1.0")),
        head(line=LINE.replace(b"/stream", b"/stream?token=t")),
        head(line=LINE.replace(b"j-1", b"j%2D1")),
        head(line=LINE.replace(b"/jobs", b"http://other/jobs")),
        head(b"Content-Length: 3"),
        head(b"transfer-encoding: chunked"),
        head(b"Expect: 100-continue"),
        head(b"Upgrade: h2c"),
        # Cursors that are none, or two of them: Flask knows what to say.
        head(b"Last-Event-ID: x"),
        head(b"Last-Event-ID:1-1"),
        head(b"Last-Event-ID: 1-1, 1-2"),
        head(b"Last-Event-ID: 1-1", b"Last-Event-ID: 1-2"),
        head(b"Last-Event-ID: 1-1", b" 2"),
        head(b"Last-Event-ID: " + b"1" * 20 + b"-1"),
    ],
)
def test_what_is_not_one_plain_request_is_not_read(other: bytes) -> None:
    assert asked(other) is None


def test_a_folded_field_is_compared_whole() -> None:
    """What comes behind a line end and a space is of the same field (RFC 9112, section 5.2)."""
    found = asked(head(b"User-Agent: x", b"\tAuthorization: Key rk_2"))
    assert found is not None
    assert b"User-Agent: x" in found.words


def test_who_asks_the_same_is_found_and_nobody_else() -> None:
    admissions = Admissions()
    assert admissions.find(head()) is None
    admissions.note(head(), LET_IN)
    assert admissions.find(head()) is LET_IN
    assert admissions.find(head(b"Origin: https://a.example")) is None


def test_they_are_bounded() -> None:
    admissions = Admissions()
    for number in range(2 * MOST):
        admissions.note(b"%d" % number, LET_IN)
    found = [admissions.find(b"%d" % number) for number in range(2 * MOST)]
    assert found.count(LET_IN) == MOST


def test_an_answer_has_the_date_of_its_day() -> None:
    told = admission(b"HTTP/1.1 200 OK\r\nDate: long ago\r\nConnection: close\r\n\r\n", None)
    assert told is not None
    begin, date, end = told.head.partition(b"GMT")
    assert begin.startswith(b"HTTP/1.1 200 OK\r\nDate: ")
    assert date + end == b"GMT\r\nConnection: close\r\n\r\n"
    assert b"long ago" not in told.head
    assert admission(b"HTTP/1.1 200 OK\r\n\r\n", None) is None
