"""The table as a picture: how many times better ours is than each peer, one line a figure. SVG.  Pure."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from math import log10
from typing import NamedTuple

from benchmarks.measure import Figure, Result

#: From a hundredth to a thousand times as good; what is beyond stands at the edge.
DECADES = range(-2, 4)
LINE_HEIGHT, TOP, LABEL_WIDTH, PLOT_WIDTH, MARGIN = 18, 28, 560, 520, 70


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


def as_svg(rows: Iterable[Sequence[Result]]) -> str:
    found = [mark for results in rows for mark in marks(results)]
    height = TOP + LINE_HEIGHT * len(found) + 10
    width = LABEL_WIDTH + PLOT_WIDTH + MARGIN
    lines = [line for number, mark in enumerate(found) for line in _line(number, mark)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            'font-family="sans-serif" font-size="10">',
            '<rect width="100%" height="100%" fill="white"/>',
            *[_grid(decade, height) for decade in DECADES],
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


def _line(number: int, mark: Mark) -> Iterator[str]:
    y = TOP + LINE_HEIGHT * number + LINE_HEIGHT / 2
    start, x = _x(1), _x(mark.better)
    colour = "#2a7" if mark.better >= 1 else "#c52"
    yield f'<text x="{LABEL_WIDTH - 8}" y="{y + 3:.1f}" text-anchor="end">{escape(mark.label[:110])}</text>'
    yield (
        f'<rect x="{min(start, x):.1f}" y="{y - 5:.1f}" width="{abs(x - start):.1f}" height="10" '
        f'fill="{colour}"/><text x="{max(start, x) + 4:.1f}" y="{y + 3:.1f}">{mark.better:.2g}</text>'
    )


def _x(better: float) -> float:
    first, last = DECADES[0], DECADES[-1]
    place = (min(max(log10(better), first), last) - first) / (last - first)
    return LABEL_WIDTH + place * PLOT_WIDTH
