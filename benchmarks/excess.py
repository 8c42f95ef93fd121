"""What events, and the batches in which they are sent, add to the steps of a thread that computes.  Pure.

Others use the machine as well, and from second to second a step takes some percent more or less: more than
what is looked for. So steps are held to their neighbours, while events come as they always do: those that
an event goes before, drawn by lot, to those without; and those around a batch to those around a moment half
way to the next batch. A moment it has to be: it is long steps that any moment rather falls into.

What would slow down all steps alike, from batch to batch, cannot be seen this way. Nothing of a publisher
that sleeps does.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

#: So many steps in a row, counted from the first, are held to one another. Among them it is drawn which have
#: events; how many there are is not: a slow machine makes more due for those that follow.
NEIGHBOURS = 8
#: The steps that may take longer for an event, from the one it goes before; and for a batch, from the one it
#: is sent in: its thread wakes up before that.
OF_EVENT, OF_BATCH = (0, 1), (-1, 0, 1, 2)
#: A step counts as at most so many usual ones. Others who use the machine make some of ten; no event does.
LONGEST = 2.0


class Taken(NamedTuple):
    """Of each step: when it ended and the thread's CPU time, both in ns, and how many events went before it.
    `batches` are when events were sent, on the clock of `ended`."""

    ended: Sequence[int]
    cpu: Sequence[int]
    events: Sequence[int]
    batches: Sequence[int] = ()


class Excess(NamedTuple):
    """µs of CPU time that one costs, with its standard error; and how many there were a second."""

    event_us: float
    event_error_us: float
    events_per_s: float
    batch_us: float
    batch_error_us: float
    batches_per_s: float

    @property
    def percent(self) -> float:
        """Of a thread that has a core to itself."""
        return (self.events_per_s * self.event_us + self.batches_per_s * self.batch_us) / 1e4

    @property
    def error_percent(self) -> float:
        errors = self.events_per_s * self.event_error_us, self.batches_per_s * self.batch_error_us
        return float(np.hypot(*errors)) / 1e4


def excess(taken: Taken) -> Excess:
    """By least squares: each event and each batch adds something to each step that it may slow down."""
    sent = np.array(taken.batches)
    events = _shifted(_less_neighbours(taken.events), OF_EVENT)
    whole = events[0].size
    batches = _shifted(_under_way(taken.ended, sent)[:whole], OF_BATCH)
    half_way = _shifted(_under_way(taken.ended, (sent[:-1] + sent[1:]) // 2)[:whole], OF_BATCH)
    shares, spread = _fit(_less_neighbours(_capped(taken.cpu)), _less_neighbours(events + batches + half_way))
    seconds = (taken.ended[-1] - taken.ended[0]) / 1e9
    event = [1] * len(events) + [0] * len(batches + half_way)
    batch = [0] * len(events) + [1] * len(batches) + [-1] * len(half_way)
    return Excess(
        *_sum(event, shares, spread), sum(taken.events) / seconds,
        *_sum(batch, shares, spread), len(sent) / seconds,
    )  # fmt: skip


def _capped(cpu: Sequence[int]) -> Any:
    return np.minimum(np.array(cpu, float), LONGEST * np.median(cpu))


def _under_way(ended: Sequence[int], moments: Any) -> Any:
    """How many of the moments fell into each step."""
    return np.bincount(np.searchsorted(ended, moments), minlength=len(ended) + 1)[: len(ended)]


def _shifted(counts: Any, steps: Sequence[int]) -> list[Any]:
    return [np.roll(counts, each) for each in steps]


def _less_neighbours(rows: Any) -> Any:
    """How fast the machine is for a moment falls out."""
    rows = np.array(rows, float)
    count = rows.shape[-1] // NEIGHBOURS * NEIGHBOURS
    groups = rows[..., :count].reshape(*rows.shape[:-1], -1, NEIGHBOURS)
    return (groups - groups.mean(-1, keepdims=True)).reshape(*rows.shape[:-1], count)


def _fit(cpu: Any, columns: Any) -> tuple[Any, Any]:
    """What one of each column adds, and the covariance of that: neighbours are disturbed together."""
    inverse = np.linalg.inv(columns @ columns.T)
    shares = inverse @ columns @ cpu
    left = columns * (cpu - shares @ columns)
    together = left.reshape(len(columns), -1, NEIGHBOURS).sum(-1)
    return shares, inverse @ together @ together.T @ inverse


def _sum(weights: list[int], shares: Any, spread: Any) -> tuple[float, float]:
    """In µs, with its standard error."""
    chosen = np.array(weights)
    return float(chosen @ shares) / 1e3, float(np.sqrt(chosen @ spread @ chosen)) / 1e3
