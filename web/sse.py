"""How an event looks on the wire: Server-Sent Events, HTML section 9.2.  Pure: bytes in, bytes out.

There are two kinds of stream. One with ids can be resumed and carries every kind of event. The
direct one has `data:` lines and nothing else, so that a client of a few lines reads it. They need
different keepalives, because common clients go wrong in opposite places:

* httpx-sse dispatches an empty event at each blank line once it has seen an id, so on a stream
  with ids a keepalive is a comment line alone;
* a reader that splits on blank lines would glue such a comment to the next event and lose both, so
  on a stream without ids a keepalive is a block of its own.
"""

from collections.abc import Iterable

from rankcast.tasks.event import RESULT, Event

CONTENT_TYPE = "text/event-stream"

#: no-store: a stream is never anybody else's answer. X-Accel-Buffering: nginx holds frames back
#: without it.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

KEEPALIVE = b":\n"
KEEPALIVE_WITHOUT_IDS = b":\n\n"

#: JSON text may hold raw CR and LF between its tokens, where a space means the same; inside a string
#: they are always escaped (RFC 8259, sections 2 and 7).
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


def frame(event: Event) -> bytes:
    """The event with its id: `id:`, `event:` unless it is a result, `data:`, blank line."""
    data = one_line(event.data or b"null")
    if event.kind == RESULT:
        return b"id: %d-%d\ndata: %b\n\n" % (*event.id, data)
    return b"id: %d-%d\nevent: %b\ndata: %b\n\n" % (*event.id, event.kind.encode(), data)


def frames(events: Iterable[Event]) -> bytes:
    """The frames of several events, for one write."""
    return b"".join([frame(event) for event in events])


def frame_without_id(kind: str, data: bytes) -> bytes:
    """An event that no resume may name: what is told of a job that is no longer there."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), one_line(data))


def data_frame(data: bytes) -> bytes:
    """A frame of the direct stream: one `data:` line of JSON."""
    return b"data: %b\n\n" % one_line(data)


def retry(delay_ms: int) -> bytes:
    """How long a client waits before it comes back, in milliseconds.

    A line without a blank line: it takes effect as soon as it is read, and belongs to the frame
    that follows, because `retry:` in a block of its own is an event without data to some clients.
    """
    return b"retry: %d\n" % delay_ms


def one_line(json_text: bytes) -> bytes:
    """The same JSON without raw line ends, which would end the `data:` field early."""
    if b"\n" in json_text or b"\r" in json_text:
        return json_text.translate(_ONE_LINE)
    return json_text
