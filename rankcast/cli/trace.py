"""`rankcast trace`: where the time of a job went."""

import json
from collections.abc import Mapping
from itertools import pairwise

import click
from rich.table import Table
from rich.text import Text

from rankcast.cli.options import job_argument, json_option, url_option
from rankcast.cli.show import clean
from rankcast.cli.status import table_console
from rankcast.client import Client

#: What the job has been through when it gets there.
MEANING = {
    "posted": "the web tier has the head of its POST",
    "created": "stands in its queue",
    "claimed": "a slot has taken it",
    "started": "its group is ready: loaded, or warm",
    "dispatched": "the call is on its way to the ranks",
    "called": "rank 0 enters __call__",
    "first_event": "user code has given its first event",
    "published": "that is in the log, and on its way to viewers",
    "returned": "rank 0 has left __call__",
    "decided": "all ranks are done",
    "ended": "the end event is in the log",
    # No record has these: `submit --trace` does.
    "sent": "this client sends the POST",
    "answered": "this client has its answer",
    "watching": "this client has the beginning of the log",
    "delivered": "this client has the first event",
    "end_delivered": "this client has the end event",
}


@click.command()
@job_argument
@json_option
@url_option
def trace(*, job_id: str, is_json: bool, url: str | None) -> None:
    """Show when JOB got where, in milliseconds after its POST came; one without began when it was created.

    What lies between claim and end, of the last attempt, is known once the job has ended. When events
    reached a viewer only that viewer knows: `rankcast submit --trace` is one, and shows the whole way.
    """
    with Client(url) as client:
        timings: dict[str, float] = client.job(job_id).record()["timings"]
    if is_json:
        click.echo(json.dumps(timings))
    else:
        show_moments(timings)


def show_moments(moments: Mapping[str, float]) -> None:
    """A table of them, in the order given."""
    table = Table("", "ms", "took", "", box=None, header_style="bold")
    for column in table.columns[1:3]:
        column.justify = "right"
    for (_, before), (name, at_ms) in pairwise([("", 0.0), *moments.items()]):
        cells = (name, f"{at_ms:,.1f}", f"{at_ms - before:,.1f}", MEANING.get(name, ""))
        table.add_row(*(Text(clean(cell)) for cell in cells))
    table_console().print(table)
