"""`make plain-celery`: the same faults against the plain Celery way and ours; see README.md.

python benchmarks/plain_celery.py [--rounds 5] [--fault "Redis killed"] [--results DIR]
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

# Run as a file, Python puts this folder on the path; the packages lie in its parent and in tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from chaos.plain_celery import HEADINGS, PATIENCE_S, ROWS, Ours, Plain, compare, table

from benchmarks.report import as_markdown, describe_machine
from benchmarks.run import RESULTS


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds of every row.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=click.Choice(sorted({row.fault for row in ROWS})),
    help="Only this; may be given again.",
)
@click.option("--patience", default=PATIENCE_S, show_default=True, help="Seconds without an end that count.")
@click.option(
    "--results", type=click.Path(path_type=Path), help="Leave the table here; default: beside the bench's."
)
def main(rounds: int, faults: Sequence[str], patience: float, results: Path | None) -> None:
    """Break both in the same ways, print what came of it, and leave that as Markdown."""
    rows = [row for row in ROWS if not faults or row.fault in faults]
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        theirs, own = Path(folder, "plain"), Path(folder, "ours")
        theirs.mkdir()
        own.mkdir()
        cells = compare([Plain(theirs), Ours(own)], rows, rounds=rounds, patience_s=patience)
    text = as_markdown(HEADINGS, [table(rows, *cells)], machine)
    print(text)
    if results or not faults:
        ((results or RESULTS) / "plain_celery.md").write_text(text)


if __name__ == "__main__":
    main()
