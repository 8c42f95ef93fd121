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
    """The first event that waits, which nobody can send yet."""

    call: Call
    kind: str
    draft: Draft


def ready(waiting: Iterable[tuple[str, bytes | Draft]]) -> list[tuple[str, bytes]]:
    """Of events in order as many as the log takes at once; none where the first is still a draft."""
    events: list[tuple[str, bytes]] = []
    size = 0
    for kind, data in waiting:
        if isinstance(data, Draft):
            break
        size += len(data)
        if events and (len(events) == BATCH_EVENTS or size > BATCH_BYTES):
            break
        events.append((kind, data))
    return events
