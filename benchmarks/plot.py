"""Rows of the table as a picture, SVG.  Pure.

How many times better ours is than each peer, one line a figure; below them what each count costs, one curve
a row that tells it.
"""

from collections.abc import Iterator, Sequence
from html import escape
from math import log10
from statistics import median
from typing import NamedTuple

from benchmarks.measure import Figure, Result
from benchmarks.report import number

#: From a hundredth to a thousand times as good; what is beyond stands at the edge.
DECADES = range(-2, 4)
LINE_HEIGHT, TOP, LABEL_WIDTH, PLOT_WIDTH, MARGIN = 18, 28, 560, 520, 70
#: A curve with its names below it, and between its ends and the edges of the plot.
CURVE_HEIGHT, CURVE_INSET = 140, 50
OURS = "#2a7"


class Mark(NamedTuple):
    """`better` is a factor, above 1 where ours is the better one."""

    label: str
    better: float


def marks(results: Sequence[Result]) -> Iterator[Mark]:
    """Ours, the first of it, beside each peer, for each figure of a row that both have."""
    ours = next(result for result in results if result.contender.is_ours)
    for figure in results[0].row.figures:
        mine = ours.median(figure)
        for result in results:
            theirs = result.median(figure)
            if not result.contender.is_ours and mine and theirs and mine * theirs > 0:
                label = f"{result.row.title} ({figure.key}): {result.contender.name}"
                yield Mark(label, _better(figure, mine, theirs))


def _better(figure: Figure, mine: float, theirs: float) -> float:
    return mine / theirs if figure.is_better_high else theirs / mine


class Curve(NamedTuple):
    """`points`: the counts by name, from the smallest up, and what each costs."""

    label: str
    unit: str
    points: Sequence[tuple[str, float]]


def curves(results: Sequence[Result]) -> Iterator[Curve]:
    """Of ours, where it tells what its figure was made of."""
    for result in results:
        points = [(name, median(values)) for name, values in result.parts().items()]
        if points and result.contender.is_ours:
            yield Curve(result.row.title, result.row.part_unit, points)


def as_svg(rows: Sequence[Sequence[Result]]) -> str:
    found = [mark for results in rows for mark in marks(results)]
    drawn = [curve for results in rows for curve in curves(results)]
    bars_height = TOP + LINE_HEIGHT * len(found) + 10 if found else 0
    height = bars_height + CURVE_HEIGHT * len(drawn)
    width = LABEL_WIDTH + PLOT_WIDTH + MARGIN
    lines = [line for place, mark in enumerate(found) for line in _line(place, mark)]
    lines += [
        line
        for place, curve in enumerate(drawn)
        for line in _curve(bars_height + CURVE_HEIGHT * place, curve)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            'font-family="sans-serif" font-size="10">',
            '<rect width="100%" height="100%" fill="white"/>',
            *[_grid(decade, bars_height) for decade in DECADES if found],
            *lines,
            "</svg>\n",
        ]
    )


def _grid(decade: int, height: int) -> str:
    x = _x(10.0**decade)
    colour = "#333" if decade == 0 else "#ccc"
    text = f"{10.0**decade:g}× as good"
    return (
        f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height}" stroke="{colour}"/>'
        f'<text x="{x:.1f}" y="{TOP - 8}" text-anchor="middle">{text}</text>'
    )


def _line(place: int, mark: Mark) -> Iterator[str]:
    y = TOP + LINE_HEIGHT * place + LINE_HEIGHT / 2
    start, x = _x(1), _x(mark.better)
    colour = OURS if mark.better >= 1 else "#c52"
    yield f'<text x="{LABEL_WIDTH - 8}" y="{y + 3:.1f}" text-anchor="end">{escape(mark.label[:110])}</text>'
    yield (
        f'<rect x="{min(start, x):.1f}" y="{y - 5:.1f}" width="{abs(x - start):.1f}" height="10" '
        f'fill="{colour}"/><text x="{max(start, x) + 4:.1f}" y="{y + 3:.1f}">{mark.better:.2g}</text>'
    )


def _curve(top: int, curve: Curve) -> Iterator[str]:
    """The counts at equal distances, as they grow by about equal factors; costs from 0."""
    base, full = top + CURVE_HEIGHT - 30, CURVE_HEIGHT - 60
    dearest = max(cost for _, cost in curve.points)
    step = (PLOT_WIDTH - 2 * CURVE_INSET) / max(1, len(curve.points) - 1)
    places = [
        (LABEL_WIDTH + CURVE_INSET + step * place, base - full * cost / dearest)
        for place, (_, cost) in enumerate(curve.points)
    ]
    yield (
        f'<text x="{LABEL_WIDTH - 8}" y="{base - full / 2:.1f}" text-anchor="end">'
        f"{escape(curve.label[:110])}</text>"
        f'<line x1="{LABEL_WIDTH}" y1="{base}" x2="{LABEL_WIDTH + PLOT_WIDTH}" y2="{base}" stroke="#333"/>'
        f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}" fill="none" stroke="{OURS}"/>'
    )
    for (x, y), (name, cost) in zip(places, curve.points, strict=True):
        told = f"{number(cost)} {curve.unit}"
        yield (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{OURS}"/>'
            f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{escape(told)}</text>'
            f'<text x="{x:.1f}" y="{base + 14}" text-anchor="middle">{escape(name)}</text>'
        )


def _x(better: float) -> float:
    first, last = DECADES[0], DECADES[-1]
    place = (min(max(log10(better), first), last) - first) / (last - first)
    return LABEL_WIDTH + place * PLOT_WIDTH
