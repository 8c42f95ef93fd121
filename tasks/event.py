"""Events and their ids: what one is, and what readers are told that no log holds.

Pure: nothing here knows Redis or HTTP. An event id is `<fence>-<seq>`; it is the Redis Stream
entry id, the SSE `id:` and the `Last-Event-ID`, and opaque to users. `seq` is dense from 1 per
fence; what happens before the first claim has fence 0, so every log begins with `0-1`.
"""

import re
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
    """One entry of a job's log. `data` is JSON text."""

    id: EventId
    prev: EventId
    kind: str
    data: bytes


# What a reader is told and no log holds. Both carry the id of the entry before the first that
# follows, so that a second break does not repeat them.


def gap(after: EventId, to: EventId) -> Event:
    """The events after `after`, up to and with `to`, have been trimmed away."""
    return Event(to, after, GAP, f'{{"after":"{after}","to":"{to}"}}'.encode())


def reset(after: EventId) -> Event:
    """The reader's cursor is not of this log, as Redis has it; what follows begins after `after`."""
    text = b'{"message":"the cursor is not of this job\'s log; what follows is from its start"}'
    return Event(after, after, RESET, text)
