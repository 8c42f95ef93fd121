"""Step 6. What rank 0's publisher does next about the events that wait.  Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from rankcast.gpu_worker.messages import Call
from rankcast.gpu_worker.payload import Draft
from rankcast.gpu_worker.progress import Progress
from rankcast.tasks.event import RESULT
from rankcast.tasks.eventlog import BATCH_BYTES, BATCH_EVENTS


class Batch(NamedTuple):
    """To be sent, with numbers from `first` on."""

    call: Call
    first: int
    events: list[tuple[str, bytes]]
    progress: Progress | None

    @property
    def has_result(self) -> bool:
        return any(kind == RESULT for kind, _ in self.events)


class Heavy(NamedTuple):
    """An event that waits, and has to be finished before it can be sent."""

    call: Call
    #: Its place among those that wait.
    place: int
    kind: str
    draft: Draft


def next_of(
    call: Call, first: int, waiting: Iterable[tuple[str, bytes | Draft]], progress: Progress | None
) -> Batch | Heavy:
    """Of events in order, at least one, as many as the log takes at once. But a draft is finished before: the
    first of them, and one that takes no time, which so ends nobody's batch."""
    events: list[tuple[str, bytes]] = []
    size = 0
    for place, (kind, data) in enumerate(waiting):
        if isinstance(data, Draft):
            if events and not data.is_ready():
                break
            return Heavy(call, place, kind, data)
        size += len(data)
        if events and (len(events) == BATCH_EVENTS or size > BATCH_BYTES):
            break
        events.append((kind, data))
    return Batch(call, first, events, progress)
