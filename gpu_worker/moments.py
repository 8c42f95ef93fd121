"""When an attempt got where.  Marks on CLOCK_MONOTONIC, which all processes of a host share."""

import time

#: What rank 0 tells of a call: it enters user code, has its first event, published that, and returned.
CALLED, FIRST_EVENT, PUBLISHED, RETURNED = "called", "first_event", "published", "returned"
#: What the worker knows itself: the job stands as running, its call is on the way, all ranks are done.
STARTED, DISPATCHED, DECIDED = "started", "dispatched", "decided"

#: Name -> nanoseconds.
Marks = dict[str, int]


class Moments:
    """Of one attempt, from its claim on. Each name keeps its first mark."""

    def __init__(self) -> None:
        self._claimed_ns = time.monotonic_ns()
        self._marks: Marks = {}

    def mark(self, name: str) -> None:
        self._marks.setdefault(name, time.monotonic_ns())

    def take(self, marks: Marks) -> None:
        """Those of another process of this host."""
        self._marks |= marks

    def told(self) -> dict[str, float]:
        """Milliseconds since the claim, in order of time."""
        in_order = sorted(self._marks.items(), key=lambda mark: mark[1])
        return {name: round((at_ns - self._claimed_ns) / 1e6, 3) for name, at_ns in in_order}
