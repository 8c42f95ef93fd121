"""Step 6 without Redis: a rank that tells its events to whoever rehearses the task (rankcast/testing).

All else is as in rank.py, whose code it is: the encoder, the publisher, checkpoints, the collective
`should_stop`. So what works in a test is what works in a job.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rankcast.gpu_worker.load import TaskClass
from rankcast.gpu_worker.messages import Call, CancelSeen, Message
from rankcast.gpu_worker.publisher import Publisher
from rankcast.gpu_worker.rank import Rank, be
from rankcast.tasks.eventlog import Appended


@dataclass(frozen=True, slots=True)
class RehearsedCall(Call):
    """A call that is cancelled once rank 0 has cast so many events. None: never."""

    cancel_after: int | None = None


@dataclass(frozen=True, slots=True)
class Told(Message):
    """From rank 0: events as the log would have them, each (number, kind, data as JSON text)."""

    events: list[tuple[int, str, str]]


class ToldLog:
    """In the place of the event log: `tell` is given all that would be appended there."""

    def __init__(self, tell: Callable[[Told], None]) -> None:
        self._tell = tell

    def append(
        self,
        *,
        job_id: str,
        fence: int,
        token: str,
        first: int,
        events: Sequence[tuple[str, bytes]],
        progress: bytes | None = None,
    ) -> Appended:
        self._tell(Told([(number, kind, data.decode()) for number, (kind, data) in enumerate(events, first)]))
        return Appended(first + len(events) - 1, is_cancel_requested=False)


class RehearsedRank(Rank):
    """One rank of a rehearsal."""

    def _open_publisher(self) -> Publisher:
        return Publisher(ToldLog(self._pipe.send), held=self._held())

    def _answer(self, task: TaskClass, call: Call) -> None:
        assert isinstance(call, RehearsedCall)
        self._job_id, self._cancel_after = call.job_id, call.cancel_after
        self._casts = itertools.count(1)
        if call.cancel_after == 0:
            # On every rank, and before the call begins.
            self._cancel()
        super()._answer(task, call)

    def cast(self, result: Any, image_format: str) -> None:
        super().cast(result, image_format)
        if next(self._casts) == self._cancel_after:
            self._cancel()

    def _cancel(self) -> None:
        """Cancel the call here and now, so that a test is the same each time; the parent tells the others."""
        self._cancelled_job = self._job_id
        assert self._worker is not None
        self._worker._cancel(self._job_id)
        self._pipe.send(CancelSeen(self._job_id))


def main(fds: tuple[int, ...]) -> int:
    """As in rank.py."""
    return be(RehearsedRank, fds)
