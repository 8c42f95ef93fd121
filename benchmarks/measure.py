"""What a row of the table is, and how rows are measured: in rounds, contenders taking turns.

A round asks every contender once, each round beginning with another one, so that what the machine
does meanwhile falls on all of them. The first round of a row warms up and is thrown away, unless the
row says otherwise. A figure is the median of its rounds, and of faults the worst of them too. One wrong
transcript, and that contender has no number but the fault.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import ceil
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.bench import Bench


class NotInstalled(Exception):
    """A peer that is not here; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a row, with what the issue asks of ours; without `must` it is told and not judged."""

    key: str
    unit: str
    must: float | None = None
    aim: float | None = None
    #: The same as so many times what a peer has in the same run, the row's first where the contender names no
    #: other; with both, the stricter.
    must_of_peer: float | None = None
    aim_of_peer: float | None = None
    #: Rates and counts; times are better small.
    is_better_high: bool = False

    def goals(self, peer: float | None = None) -> tuple[float | None, float | None]:
        """What ours must reach, and is to; `peer` is the peer's. None: not asked, or not known."""
        return (
            self._stricter(self.must, self.must_of_peer, peer),
            self._stricter(self.aim, self.aim_of_peer, peer),
        )

    def _stricter(self, limit: float | None, factor: float | None, peer: float | None) -> float | None:
        """Of a limit, and one that is so many times a peer's: whichever is harder to reach."""
        found = [] if limit is None else [limit]
        if factor is not None and peer is not None:
            found.append(factor * peer)
        return (max if self.is_better_high else min)(found, default=None)

    def verdict(self, value: float, peer: float | None = None) -> str:
        must, aim = self.goals(peer)
        if aim is not None and self._reaches(value, aim):
            return "aim met"
        if must is None:
            return ""
        return "must met" if self._reaches(value, must) else "missed"

    def _reaches(self, value: float, goal: float) -> bool:
        return value >= goal if self.is_better_high else value <= goal


@dataclass(frozen=True, slots=True)
class Sample:
    """One contender's turn: its figures by key, or what was wrong with its transcript."""

    figures: Mapping[str, float]
    fault: str | None = None
    raw: dict[str, Any] = field(default_factory=dict)
    #: What its first figure was made of, by name, in the row's `part_unit`: told below it, and not judged.
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    measure: Callable[["Bench"], Sample]
    is_ours: bool = False
    #: Name of the peer that its goals are ratios to; None: the row's first.
    beside: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    key: str
    title: str
    figures: Sequence[Figure]
    contenders: Sequence[Contender]
    part_unit: str = ""
    rounds: int = 5
    warm_ups: int = 1


@dataclass(slots=True)
class Result:
    """One contender in one row, all rounds."""

    row: Row
    contender: Contender
    samples: list[Sample] = field(default_factory=list)
    missing: str | None = None
    #: What it said when it raised or ended.
    broken: str | None = None

    @property
    def fault(self) -> str | None:
        """Why there is no number, in one line."""
        if self.broken:
            return self.broken.splitlines()[0]
        return " / ".join(dict.fromkeys(sample.fault for sample in self.samples if sample.fault)) or None

    def values(self, figure: Figure) -> list[float]:
        return [sample.figures[figure.key] for sample in self.samples]

    def median(self, figure: Figure) -> float | None:
        """None where there is no honest number."""
        if self.missing or self.fault or not self.samples:
            return None
        return median(self.values(figure))

    def parts(self) -> dict[str, list[float]]:
        """What the first figure was made of, all rounds, by name; none where there is no honest number."""
        if self.missing or self.fault or not self.samples:
            return {}
        return {name: [sample.parts[name] for sample in self.samples] for name in self.samples[0].parts}

    def worst(self, figure: Figure) -> float | None:
        """What a promise is judged by; None where there is no honest number."""
        if self.median(figure) is None:
            return None
        return (min if figure.is_better_high else max)(self.values(figure))


def measure(row: Row, bench: "Bench", rounds: int | None = None) -> list[Result]:
    """All contenders of a row, interleaved."""
    results = [Result(row, contender) for contender in row.contenders]
    for number in range(row.warm_ups + (rounds or row.rounds)):
        for result in _rotated(results, number):
            _take_turn(result, bench, is_warm_up=number < row.warm_ups)
    return results


def _take_turn(result: Result, bench: "Bench", is_warm_up: bool) -> None:
    if result.missing or result.broken:
        return
    try:
        sample = result.contender.measure(bench)
    except NotInstalled as error:
        result.missing = str(error)
    except Exception as error:
        # Its process is in an unknown state: no second try, and the other rows go on.
        result.broken = f"{type(error).__name__}: {error}"
    else:
        if not is_warm_up:
            result.samples.append(sample)


def _rotated(results: Sequence[Result], number: int) -> Iterator[Result]:
    for position in range(len(results)):
        yield results[(position + number) % len(results)]


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank: the smallest value that `percent` of all do not exceed."""
    return sorted(values)[max(0, ceil(len(values) * percent / 100) - 1)]


def growth(costs: Sequence[float]) -> float:
    """How much dearer a larger count is than any smaller one; `costs` from the smallest count up.

    1 where none is dearer: what gets cheaper with more does not grow.
    """
    return max([1.0, *(more / fewer for fewer, more in combinations(costs, 2))])


def times(reply: dict[str, Any], **percents: float) -> Sample:
    """A sample from an actor's list of milliseconds: one figure each percentile asked for."""
    ms = reply["ms"]
    figures = {key: percentile(ms, percent) for key, percent in percents.items()} if ms else {}
    return Sample(figures, reply["fault"] or (None if ms else "nothing arrived"), {"ms": ms})
