"""Makes events with arrival times out of what a socket gave.  Pure.

A reader that parses while it reads is measured instead of the server, so readers only record
`(CLOCK_MONOTONIC in ns, bytes)`, one pair a recv; all reading of HTTP and SSE is done here, afterwards.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

Recorded = Sequence[tuple[int, bytes]]


class Arrival(NamedTuple):
    """One SSE frame; `at_ns` is the recv that completed it."""

    at_ns: int
    kind: str
    data: Any


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    arrivals: list[Arrival]


def read_answer(recorded: Recorded) -> Answer:
    """An HTTP/1.1 answer whose body is an event stream; ValueError if it is not complete."""
    raw = b"".join(data for _, data in recorded)
    head, blank_line, _ = raw.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    start = len(head) + len(blank_line)
    if headers.get("transfer-encoding") == "chunked":
        chunks = list(_chunks(raw, start))
    else:
        chunks = [(start, len(raw) - start)]
    return Answer(int(status_line.split(" ")[1]), headers, list(_arrivals(recorded, raw, chunks)))


def _chunks(raw: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Where each chunk's data lies in `raw`: (offset, length).  RFC 9112, section 7.1."""
    while True:
        line_end = raw.index(b"\r\n", at)
        length = int(raw[at:line_end].split(b";")[0], 16)
        if length == 0:
            return
        yield line_end + 2, length
        at = line_end + 2 + length + 2


def _arrivals(recorded: Recorded, raw: bytes, chunks: Sequence[tuple[int, int]]) -> Iterator[Arrival]:
    body = b"".join(raw[offset : offset + length] for offset, length in chunks)
    body_starts = [0, *accumulate(length for _, length in chunks)]
    received = list(accumulate(len(data) for _, data in recorded))
    begin = 0
    while (end := body.find(b"\n\n", begin)) >= 0:
        last_byte = end + 1
        chunk = bisect_right(body_starts, last_byte) - 1
        in_raw = chunks[chunk][0] + last_byte - body_starts[chunk]
        at_ns = recorded[bisect_left(received, in_raw + 1)][0]
        kind, data = _frame(body[begin:end])
        if data is not None:
            yield Arrival(at_ns, kind, data)
        begin = end + 2


def _frame(text: bytes) -> tuple[str, Any]:
    """Kind and JSON of one frame; (kind, None) for a frame that carries no data."""
    kind, data = "", None
    for line in text.split(b"\n"):
        if line.startswith(b"data: "):
            data = json.loads(line[6:])
        elif line.startswith(b"event: "):
            kind = line[7:].decode()
    return kind, data
