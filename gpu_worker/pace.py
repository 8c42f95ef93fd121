"""Step 6. When rank 0's publisher rests between two batches.  Pure.

To wake it takes the thread that computes longer than to encode a small event, and while it is at work it
wants the interpreter and the caches. Up to as many events a second as a screen shows pictures, that is the
price of seeing each at once. Of more, nobody sees the single one: then all that there are go out together,
10 times a second.
"""

from collections.abc import Sequence

#: So many events in so many seconds, 90 a second, are more than a screen shows.
QUICK_EVENTS, QUICK_S = 32, 0.35
REST_S = 0.1


def is_quick(taken: Sequence[tuple[float, object]], now: float) -> bool:
    """Whether events come so quickly that the publisher rests. `taken` are the newest that the log took, each
    with when it did. A few at once do not make it rest: what counts is the whole of QUICK_EVENTS, and those
    that were taken together with the first of them. They came at any time since others were taken."""
    first = len(taken) - QUICK_EVENTS
    if first < 0:
        return False
    together = taken[first][0]
    while first > 0 and taken[first - 1][0] == together:
        first -= 1
    since = taken[max(0, first - 1)][0]
    return now - since < (len(taken) - first) * QUICK_S / QUICK_EVENTS
