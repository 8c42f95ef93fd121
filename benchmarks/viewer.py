"""Somebody who watches a job over HTTP while something happens to it, and knows when they saw what.

Faults are injected by the same process, so one clock, CLOCK_MONOTONIC, has both ends of every time:
from right before the signal or the request to the event's arrival here.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from rankcast import Job

SEEN_WITHIN_S = 90.0


class Arrival(NamedTuple):
    """One event, and CLOCK_MONOTONIC in seconds when it was there."""

    at_s: float
    id: str
    kind: str
    data: Any


class Viewer:
    """Reads in a thread of its own from the job's start to its end; comes back where it was cut off.

    What is waited for and does not come in SEEN_WITHIN_S is a RuntimeError.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.arrivals: list[Arrival] = []
        self._more = threading.Condition()
        self._broken: Exception | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for event in self.job.stream():
                with self._more:
                    self.arrivals.append(Arrival(time.monotonic(), event.id, event.kind, event.data))
                    self._more.notify_all()
        except Exception as error:
            # No more of it, or its client was closed: whoever waits for an event is told.
            with self._more:
                self._broken = error
                self._more.notify_all()

    def first(self, is_it: Callable[[Arrival], bool], what: str) -> Arrival:
        """The first event that is it, seen already or not."""

        def found() -> Arrival | Exception | None:
            return next((arrival for arrival in self.arrivals if is_it(arrival)), self._broken)

        with self._more:
            self._more.wait_for(found, SEEN_WITHIN_S)
            match found():
                case Arrival() as arrival:
                    return arrival
                case fault:
                    raise RuntimeError(f"job {self.job.id}: {fault or f'no {what} in {SEEN_WITHIN_S:g} s'}")

    def starting(self, attempt: int) -> Arrival:
        """That this attempt was claimed."""
        return self.first(
            lambda each: _state(each) == "starting" and each.data["attempt"] == attempt,
            f"start of attempt {attempt}",
        )

    def lost(self) -> Arrival:
        """That an attempt was lost: the job is queued again, or has ended with that error."""
        return self.first(
            lambda each: each.kind in ("state", "end") and "error" in each.data, "word of a lost attempt"
        )

    def result(self, attempt: int) -> Arrival:
        """The first thing that the task streamed in this attempt; our tasks say in which."""
        return self.first(
            lambda each: each.kind == "" and each.data["attempt"] == attempt, f"result of attempt {attempt}"
        )

    def end(self) -> Arrival:
        return self.first(lambda each: each.kind == "end", "end")

    def cancel(self) -> Arrival:
        """Have the job cancelled and see its end; where a round has seen enough."""
        self.job.cancel()
        return self.end()


def _state(arrival: Arrival) -> str:
    return str(arrival.data["state"]) if arrival.kind == "state" else ""
