"""`make bench`: every row of the table, ours and peers in turn; see README.md.

python benchmarks/run.py [--rows start,burst] [--rounds 3] [--logs DIR]
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console

# Run as a file, Python puts this folder on the path; the package is imported from its parent.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.bench import Bench
from benchmarks.measure import Result, measure
from benchmarks.plot import as_svg
from benchmarks.report import HEADINGS, as_json, as_markdown, describe_machine, lines, print_table, told_of
from benchmarks.rows import GROUPS, ROWS
from benchmarks.system import redis_version

RESULTS = Path(__file__).with_name("results")
#: A narrow terminal, or none, would fold the table into something nobody can read.
NARROWEST = 150


@click.command()
@click.option("--rows", "keys", help="Only these, with commas: " + ",".join(row.key for row in ROWS))
@click.option("--rounds", type=click.IntRange(1), help="Rounds of every row, instead of its own number.")
@click.option("--logs", type=click.Path(path_type=Path), help="Keep the logs of all processes here.")
def main(keys: str | None, rounds: int | None, logs: Path | None) -> None:
    """Measure, print a table, and leave it in benchmarks/results/ as JSON, Markdown and pictures."""
    console = Console()
    console.width = max(console.width, NARROWEST)
    wanted = [row for row in ROWS if keys is None or row.key in keys.split(",")]
    machine = describe_machine(redis_version())
    with tempfile.TemporaryDirectory() as folder:
        where = logs or Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        measured: list[list[Result]] = []
        with Bench(where) as bench:
            for row in wanted:
                console.print(f"[dim]{row.title} …[/dim]")
                measured.append(measure(row, bench, rounds))
    tell_failures(measured, console)
    print_table("Rankcast beside its peers", HEADINGS, map(lines, measured), console)
    console.print(told_of(machine), markup=False, highlight=False)
    if keys is None:
        _save(measured, machine)
    if any(result.fault for results in measured for result in results if result.contender.is_ours):
        sys.exit(1)


def tell_failures(measured: list[list[Result]], console: Console) -> None:
    for result in (result for results in measured for result in results if result.broken):
        console.print(f"{result.contender.name}: {result.broken}", style="red", markup=False, highlight=False)


def _save(measured: list[list[Result]], machine: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(json.dumps(as_json(measured, machine), indent=1) + "\n")
    (RESULTS / "latest.md").write_text(as_markdown(HEADINGS, map(lines, measured), machine))
    for name, rows in GROUPS.items():
        shown = [results for results in measured if results[0].row in rows]
        (RESULTS / f"latest-{name}.svg").write_text(as_svg(shown))


if __name__ == "__main__":
    main()
