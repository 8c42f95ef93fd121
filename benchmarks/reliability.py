"""`make reliability`: every figure of a single fault, on the real system; see README.md.

python benchmarks/reliability.py [--rows cancel,rank-killed] [--rounds 10] [--logs DIR] [--results DIR]
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console

# Run as a file, Python puts this folder on the path; the package is imported from its parent.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.bench import Bench
from benchmarks.faults import ROWS
from benchmarks.measure import Result, measure
from benchmarks.report import (
    FAULT_HEADINGS,
    as_json,
    as_markdown,
    describe_machine,
    fault_lines,
    print_table,
)
from benchmarks.run import NARROWEST, RESULTS, tell_failures

TITLE = "Rankcast while something breaks"


@click.command()
@click.option("--rows", "keys", help="Only these, with commas: " + ",".join(row.key for row in ROWS))
@click.option("--rounds", type=click.IntRange(1), help="Rounds of every row, instead of its own number.")
@click.option("--logs", type=click.Path(path_type=Path), help="Keep the logs of all processes here.")
@click.option(
    "--results", type=click.Path(path_type=Path), help="Leave the results here; default: beside the bench's."
)
def main(keys: str | None, rounds: int | None, logs: Path | None, results: Path | None) -> None:
    """Break things, print what came of it, and leave that as JSON and Markdown.

    Code 1 where something was wrong or a must was missed.
    """
    console = Console()
    console.width = max(console.width, NARROWEST)
    wanted = [row for row in ROWS if keys is None or row.key in keys.split(",")]
    machine = describe_machine()
    measured: list[list[Result]] = []
    with tempfile.TemporaryDirectory() as folder:
        where = (logs or Path(folder)).resolve()
        where.mkdir(parents=True, exist_ok=True)
        with Bench(where) as bench:
            for row in wanted:
                console.print(f"[dim]{row.title} …[/dim]")
                measured.append(measure(row, bench, rounds))
    tell_failures(measured, console)
    print_table(TITLE, FAULT_HEADINGS, map(fault_lines, measured), console)
    if results or keys is None:
        folder_of_results = results or RESULTS
        folder_of_results.mkdir(parents=True, exist_ok=True)
        text = json.dumps(as_json(measured, machine), indent=1)
        (folder_of_results / "reliability.json").write_text(text + "\n")
        table = as_markdown(FAULT_HEADINGS, map(fault_lines, measured), machine)
        (folder_of_results / "reliability.md").write_text(table)
    sys.exit(any(_misses(measured)))


def _misses(measured: list[list[Result]]) -> Iterator[Result]:
    """What has a fault instead of a number, or a number that a must forbids."""
    for result in (result for results in measured for result in results):
        verdicts = (
            figure.verdict(worst)
            for figure in result.row.figures
            if (worst := result.worst(figure)) is not None
        )
        if result.fault or "missed" in verdicts:
            yield result


if __name__ == "__main__":
    main()
