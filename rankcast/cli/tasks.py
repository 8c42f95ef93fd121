"""`rankcast tasks`: what can be submitted."""

import json

import click
from rich.table import Table
from rich.text import Text

from rankcast.cli.completion import task_names
from rankcast.cli.options import json_option, unknown_task, url_option
from rankcast.cli.show import clean, pretty
from rankcast.cli.status import table_console
from rankcast.client import Client


@click.command()
@click.argument("name", required=False, metavar="[TASK]", shell_complete=task_names)
@json_option
@url_option
def tasks(*, name: str | None, is_json: bool, url: str | None) -> None:
    """List the tasks that workers registered, or show TASK with the schema of its input."""
    with Client(url) as client:
        found = client.tasks()
        if name is not None:
            found = [task for task in found if task["name"] == name]
            if not found:
                raise unknown_task(name, client)
    if is_json:
        click.echo(json.dumps(found if name is None else found[0], ensure_ascii=False))
        return
    if name is not None:
        click.echo(pretty(found[0]))
        return
    table = Table("task", "input", "ranks", "workers", "description", box=None, header_style="bold")
    for task in found:
        fields = ", ".join(task["input_schema"].get("properties", {}))
        cells = (task["name"], fields, task["world_size"], task["workers"], task.get("description") or "")
        table.add_row(*(Text(clean(str(cell))) for cell in cells))
    table_console().print(table if found else "no worker has registered a task yet")
