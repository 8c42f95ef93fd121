"""Requests for one job's stream that Flask has let in, so that it need not be asked about the same again.

A crowd asks in the same few words, and to read and answer them takes longer than all else that a viewer
costs. Nothing is decided here: what was decided of a request holds for another in the same words, as long
as the key that it showed is what it was.  Pure.
"""

import re
from email.utils import formatdate
from typing import NamedTuple

from rankcast.web.keyring import ApiKey

#: Kinds of requests that one job's viewers make; of others Flask is asked each time.
MOST = 32
#: Header fields in which viewers differ, and that nothing is decided by; a test holds the routes to it.
IDLE = (
    *("User-Agent", "Accept-Language", "Cookie", "Referer", "Priority", "DNT", "Sec-GPC"),
    *("Sec-CH-UA", "Sec-CH-UA-Mobile", "Sec-CH-UA-Platform", "Sec-Fetch-Dest", "Sec-Fetch-Mode"),
    *("X-Forwarded-For", "X-Real-IP", "X-Request-Id", "Traceparent", "Tracestate"),
)
#: What may mean that the request goes on behind its head, or becomes another.
_MORE = re.compile(rb"\r\n(?:content-length|transfer-encoding|expect|upgrade|last-event-id)\b", re.IGNORECASE)
#: gunicorn refuses a head with more fields than a hundred.
MOST_LINES = 100
#: A query may have a token, which runs out, so there is none.
_LINE = re.compile(rb"GET /jobs/([\w.-]{1,128})/stream HTTP/1\.1\r\n")
_CURSOR = re.compile(rb"\r\nLast-Event-ID: ([0-9]{1,19}-[0-9]{1,19})(?=\r\n[^ \t])", re.IGNORECASE)
_IDLE = re.compile(
    rb"\r\n(?:%b): [\t -~]*(?=\r\n[^ \t])" % "|".join(IDLE).encode(), re.IGNORECASE
)  # fmt: skip
_END = b"\r\n\r\n"


class Asked(NamedTuple):
    """Of a request for a stream, what is decided by, as it was written; and where it wants to go on."""

    job_id: str
    words: bytes
    cursor: str | None
    #: Of all of it, in bytes.
    size: int


def asked(head: bytes) -> Asked | None:
    """`head` is what came over a new connection; None where that is anything but one whole and plain
    request for a job's stream (RFC 9112, section 2.1)."""
    line = _LINE.match(head)
    if line is None or head.find(_END) != len(head) - len(_END) or head.count(b"\r\n") > MOST_LINES:
        return None
    words, cursors = head, _CURSOR.findall(head)
    if cursors:
        words = _CURSOR.sub(b"", words, count=1)
    words = _IDLE.sub(b"", words)
    if _MORE.search(words):
        return None
    return Asked(line[1].decode(), words, cursors[0].decode() if cursors else None, len(head))


class Admission(NamedTuple):
    """The answer's head, but for its date; and whose key let the request in, None where nobody has one."""

    before_date: bytes
    after_date: bytes
    key: ApiKey | None

    @property
    def head(self) -> bytes:
        """As of now."""
        return b"%b%b%b" % (self.before_date, formatdate(usegmt=True).encode(), self.after_date)


def admission(head: bytes, key: ApiKey | None) -> Admission | None:
    """Of an answer that began so. None where it has no date, or whatever else was to be one."""
    before, found, rest = head.partition(b"\r\nDate: ")
    _, _, after = rest.partition(b"\r\n")
    return Admission(before + found, b"\r\n" + after, key) if found else None


class Admissions:
    """Those of one job."""

    def __init__(self) -> None:
        self._found: dict[bytes, Admission] = {}

    def note(self, words: bytes, admission: Admission) -> None:
        if len(self._found) < MOST:
            self._found[words] = admission

    def find(self, words: bytes) -> Admission | None:
        return self._found.get(words)
