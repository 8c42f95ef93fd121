"""Events and their ids: what one is, how a batch of them looks on a job's live channel.

Pure: nothing here knows Redis or HTTP. An event id is `<fence>-<seq>`; it is the Redis Stream
entry id, the SSE `id:` and the `Last-Event-ID`, and opaque to users. `seq` is dense from 1 per
fence; what happens before the first claim has fence 0, so every log begins with `0-1`.

On the channel a batch is lines: the id before its first event, then one line an event,
`id TAB kind TAB json`. JSON text never holds a raw tab or newline (RFC 8259, section 7), so
nothing is escaped and the reader splits instead of parsing. An event too large for the channel
is its id and kind alone: the reader finds it in the log.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: The kind of what a user's code streams; it has no `event:` line in SSE.
RESULT = ""
STATE = "state"
#: A file that another attempt may begin from is on disk; what the newest tells is in the record.
CHECKPOINT = "checkpoint"
#: Exactly one a job, and the last.
END = "end"
#: Made on the reader's side: events that were asked for have been trimmed away.
GAP = "gap"
#: Made on the reader's side: the cursor belongs to a history that Redis lost.
RESET = "reset"

_ID = re.compile(r"(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})", re.ASCII)
_LARGEST = 2**63 - 1


class EventId(NamedTuple):
    """A place in a job's log; compares in log order."""

    fence: int
    seq: int

    def __str__(self) -> str:
        return f"{self.fence}-{self.seq}"

    @classmethod
    def parse(cls, text: str | bytes) -> "EventId":
        """Read `<fence>-<seq>`; ValueError for anything that Redis would not take as an entry id."""
        if isinstance(text, bytes):
            text = text.decode("ascii", "replace")
        match = _ID.fullmatch(text)
        if match is None:
            raise ValueError(f"not an event id: {text[:40]!r}")
        fence, seq = int(match[1]), int(match[2])
        if fence > _LARGEST or seq > _LARGEST:
            raise ValueError(f"not an event id: {text[:40]!r}")
        return cls(fence, seq)


#: The cursor of a reader that has seen nothing.
START = EventId(0, 0)


class Event(NamedTuple):
    """One entry of a job's log. `data` is one line of JSON; None where only the log has it."""

    id: EventId
    prev: EventId
    kind: str
    data: bytes | None


# What a reader is told and no log holds. Both carry the id of the entry before the first that
# follows, so that a second break does not repeat them.


def gap(after: EventId, to: EventId) -> Event:
    """The events after `after`, up to and with `to`, have been trimmed away."""
    return Event(to, after, GAP, f'{{"after":"{after}","to":"{to}"}}'.encode())


def reset(after: EventId) -> Event:
    """The reader's cursor is not of this log, as Redis has it; what follows begins after `after`."""
    text = b'{"message":"the cursor is not of this job\'s log; what follows is from its start"}'
    return Event(after, after, RESET, text)


def encode_batch(prev: EventId, events: Iterable[tuple[EventId, str, bytes | None]]) -> bytes:
    """The channel message for `events`, in order; the append script builds the same bytes."""
    lines = [str(prev).encode()]
    for event_id, kind, data in events:
        head = f"{event_id}\t{kind}".encode()
        lines.append(head if data is None else head + b"\t" + data)
    return b"\n".join(lines)


def decode_batch(message: bytes) -> Sequence[Event]:
    """The events of a channel message, each with the id before it; ValueError if it is not one."""
    head, *lines = message.split(b"\n")
    prev = _id_on_channel(head)
    events = []
    for line in lines:
        event_id, kind, *data = line.split(b"\t", 2)
        this = _id_on_channel(event_id)
        events.append(Event(this, prev, kind.decode(), data[0] if data else None))
        prev = this
    return events


def _id_on_channel(text: bytes) -> EventId:
    """As parse, of what the append script wrote; quicker, less strict. ValueError where it is no id."""
    fence, seq = text.split(b"-")
    return EventId(int(fence), int(seq))
