"""What goes over a job's live channel: batches of events, as their viewers are sent them.  Pure.

A message is a line, `PREV LAST END`, and then the frames of its events: Server-Sent Events with ids (HTML,
section 9.2), ready to be written. PREV is the id before the first event, LAST that of the last, END is 1
where that is the end of the job, else 0. Where one of the events is larger than MAX_PUBLISHED there are no
frames: the reader finds them in the log.

Of data every line end becomes a space, so an empty line ends a frame and nothing else does. The scripts
build the same bytes (lua/prelude.lua).
"""

from collections.abc import Sequence

from rankcast.tasks.event import END, RESULT, Event, EventId

#: A batch with an event of more data is published without frames.
MAX_PUBLISHED = 64 * 1024
#: What a batch takes in memory beside its frames: itself, its ids, its place among others.
OVERHEAD_BYTES = 480

#: JSON text may hold raw CR and LF between its tokens, where a space means the same; inside a string
#: they are always escaped (RFC 8259, sections 2 and 7).
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
#: Makes an EventId of its numbers without a call into Python: twice for each message.
_id = tuple.__new__


def one_line(json_text: bytes) -> bytes:
    """The same JSON without raw line ends, which would end the `data:` field early."""
    if b"\n" in json_text or b"\r" in json_text:
        return json_text.translate(_ONE_LINE)
    return json_text


def frame(event: Event) -> bytes:
    """The event with its id: `id:`, `event:` unless it is a result, `data:`, blank line."""
    data = one_line(event.data or b"null")
    if event.kind == RESULT:
        return b"id: %d-%d\ndata: %b\n\n" % (*event.id, data)
    return b"id: %d-%d\nevent: %b\ndata: %b\n\n" % (*event.id, event.kind.encode(), data)


class Batch:
    """Some events in order, at least one, as the frames that all their viewers are sent."""

    __slots__ = ("frames", "has_end", "last", "prev")

    def __init__(self, prev: EventId, last: EventId, frames: bytes, *, has_end: bool) -> None:
        self.prev = prev
        self.last = last
        #: Empty where only the log has them.
        self.frames = frames
        #: The last one is the end of the job.
        self.has_end = has_end

    @classmethod
    def of(cls, events: Sequence[Event]) -> "Batch":
        frames = b"".join([frame(event) for event in events])
        return cls(events[0].prev, events[-1].id, frames, has_end=events[-1].kind == END)

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return OVERHEAD_BYTES + len(self.frames)

    @property
    def events(self) -> list[Event]:
        """Read from the frames; ValueError where they are none."""
        found, prev = [], self.prev
        for each in self.frames.split(b"\n\n")[:-1]:
            event_id, *kind, data = each.split(b"\n")
            named = kind[0].removeprefix(b"event: ").decode() if kind else RESULT
            this = EventId.parse(event_id.removeprefix(b"id: "))
            found.append(Event(this, prev, named, data.removeprefix(b"data: ")))
            prev = this
        return found

    def after(self, cursor: EventId) -> "Batch | None":
        """What of it follows `cursor`; None if `cursor` is neither its `prev` nor one of its events before
        the last."""
        if cursor == self.prev:
            return self
        head = b"id: %d-%d\n" % cursor
        begins_at = 0 if self.frames.startswith(head) else self.frames.find(b"\n\n" + head)
        if begins_at < 0 or cursor == self.last:
            return None
        ends_at = self.frames.index(b"\n\n", begins_at + 2) + 2
        return Batch(cursor, self.last, self.frames[ends_at:], has_end=self.has_end)


def encode_batch(events: Sequence[Event]) -> bytes:
    """The message for `events`."""
    batch = Batch.of(events)
    head = f"{batch.prev} {batch.last} {batch.has_end:d}\n".encode()
    is_whole = all(len(event.data) <= MAX_PUBLISHED for event in events)
    return head + batch.frames if is_whole else head


def decode_batch(message: bytes) -> Batch:
    """What `message` has; ValueError if it is not one. Frames are not looked into."""
    head, _, frames = message.partition(b"\n")
    # As EventId.parse, of what the scripts wrote: quicker, and less strict.
    prev_fence, prev_seq, fence, seq, has_end = map(int, head.replace(b"-", b" ").split(b" "))
    if frames and not (frames.startswith(b"id: ") and frames.endswith(b"\n\n")):
        raise ValueError(f"no frames: {frames[:40]!r}")
    prev, last = _id(EventId, (prev_fence, prev_seq)), _id(EventId, (fence, seq))
    return Batch(prev, last, frames, has_end=has_end == 1)
