"""The way of a job as its client and its server saw it, on one axis.  Pure.

Two clocks, which nobody compares. What is known: nothing is answered before it is made, and nothing arrives
before it was written. As far as that lets the server's moments be shifted, they stand in the middle.
"""

from collections.abc import Mapping
from operator import itemgetter
from typing import NamedTuple

#: A moment of the server's, and one of the client's that cannot come before it.
ORDER = (("created", "answered"), ("published", "delivered"), ("ended", "end_delivered"))


class Way(NamedTuple):
    """`moments` are milliseconds since the client sent the POST, in order; all those of the server may be
    early or late by up to `within_ms`."""

    moments: dict[str, float]
    within_ms: float


def merged(seen: Mapping[str, float], timings: Mapping[str, float]) -> Way:
    """`seen` by the client, `sent` at 0; `timings` of the record, which begin with 0 as well."""
    pairs = [(before, after) for before, after in ORDER if before in timings and after in seen]
    # Below 0 where Redis' whole milliseconds make something later than it was.
    room_ms = max(0.0, min(seen[after] - timings[before] for before, after in pairs))
    within_ms = round(room_ms / 2, 3)
    placed = {name: round(at_ms + within_ms, 3) for name, at_ms in timings.items()}
    # At the same time, what was made comes before what arrived.
    moments = {"sent": 0.0, **placed, **seen}
    return Way(dict(sorted(moments.items(), key=itemgetter(1))), within_ms)
