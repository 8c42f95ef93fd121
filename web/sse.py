"""What else is on the wire: Server-Sent Events, HTML section 9.2.  Pure: bytes in, bytes out.

Events with ids are frames before they come here (tasks/live.py).

There are two kinds of stream. One with ids can be resumed and carries every kind of event. The
direct one has `data:` lines and nothing else, so that a client of a few lines reads it. They need
different keepalives, because common clients go wrong in opposite places:

* httpx-sse dispatches an empty event at each blank line once it has seen an id, so on a stream
  with ids a keepalive is a comment line alone;
* a reader that splits on blank lines would glue such a comment to the next event and lose both, so
  on a stream without ids a keepalive is a block of its own.
"""

from rankcast.tasks.live import one_line

CONTENT_TYPE = "text/event-stream"

#: no-store: a stream is never anybody else's answer. X-Accel-Buffering: nginx holds frames back
#: without it.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

KEEPALIVE = b":\n"
KEEPALIVE_WITHOUT_IDS = b":\n\n"


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
