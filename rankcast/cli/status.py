"""`rankcast status`: hosts, slots, what runs where, and what waits."""

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rankcast.cli.options import json_option, url_option
from rankcast.cli.show import clean
from rankcast.client import Client

#: Wide enough for a job id beside the rest; a terminal has its own width.
PIPE_WIDTH = 160


@click.command()
@json_option
@url_option
def status(*, is_json: bool, url: str | None) -> None:
    """Show the live workers, their slots and what runs there, and the length of every queue."""
    with Client(url) as client:
        found = client.status()
    if is_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    console = table_console()
    console.print(_workers(found["workers"]) if found["workers"] else "no worker is alive")
    for worker in found["workers"]:
        if worker.get("shares_folder") is False:
            told = (
                f"{worker['host']} stores in another folder than the web tier reads: give both one --shared"
            )
            console.print(Text(clean(told)))
    if found["queues"]:
        console.print()
        console.print(_queues(found["queues"]))


def table_console() -> Console:
    """Where tables go; without a terminal there is no width to keep to."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def _workers(workers: list[dict[str, Any]]) -> Table:
    table = Table("host", "pid", "slot", "devices", "state", "task", "job", box=None, header_style="bold")
    for worker in workers:
        for slot in worker["slots"] or [{}]:
            devices = ",".join(str(device) for device in slot.get("devices", ())) or "cpu"
            cells = (
                worker["host"],
                worker["pid"],
                slot.get("index", ""),
                devices,
                slot.get("state", ""),
                slot.get("warm") or "",
                slot.get("job_id") or "",
            )
            table.add_row(*(Text(clean(str(cell))) for cell in cells))
    return table


def _queues(queues: list[dict[str, Any]]) -> Table:
    table = Table("task", "queued", "running", box=None, header_style="bold")
    for queue in queues:
        cells = (queue["task"], queue["queued"], queue["running"])
        table.add_row(*(Text(clean(str(cell))) for cell in cells))
    return table
