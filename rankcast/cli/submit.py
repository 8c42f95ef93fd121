"""`rankcast submit`: queue a job."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from rankcast.cli.options import json_option, task_argument, unknown_task, url_option
from rankcast.cli.traced import Seen, trace_job
from rankcast.cli.values import parse_pairs
from rankcast.cli.watch import watch_job
from rankcast.client import Client
from rankcast.errors import NotAllowed, UnknownTask


@click.command(context_settings={"ignore_unknown_options": False})
@task_argument
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--input", "json_input", metavar="JSON|@FILE|-", help="The whole input; - reads stdin.")
@click.option("--watch", "is_watched", is_flag=True, help="Watch the job to its end.")
@click.option(
    "--trace",
    "is_traced",
    is_flag=True,
    help="Wait for its end, and show where the time went until its events were here.",
)
@click.option("--priority", type=click.IntRange(0, 9), help="0 is first, 9 last.")
@click.option("--timeout", "timeout_s", type=float, metavar="S", help="Seconds that one attempt may run.")
@json_option
@url_option
def submit(
    *,
    task: str,
    pairs: tuple[str, ...],
    json_input: str | None,
    is_watched: bool,
    is_traced: bool,
    priority: int | None,
    timeout_s: float | None,
    is_json: bool,
    url: str | None,
) -> None:
    """Queue a job of TASK and print its id.

    A VALUE is JSON if it parses as that, else a string: steps=20 prompt="A sunset" sizes=[64,128].
    """
    if json_input is not None and pairs:
        raise click.UsageError("give the input as KEY=VALUE or as --input, not both")
    if is_watched and is_traced:
        raise click.UsageError("give --watch, to see the events, or --trace, not both")
    options = {"priority": priority, "timeout_s": timeout_s}
    with Client(url) as client:
        try:
            fields = _from_json(json_input) if json_input is not None else _from_pairs(pairs, task, client)
            asked = {name: value for name, value in options.items() if value is not None}
            seen = Seen()
            job = client.submit(task, fields, options=asked)
            seen.mark("answered")
        except UnknownTask as error:
            raise unknown_task(task, client) from error
        if is_traced:
            sys.exit(trace_job(job, seen, is_json=is_json))
        if is_watched and not is_json:
            click.echo(f"job {job.id}", err=True)
        else:
            click.echo(json.dumps({"job_id": job.id}) if is_json else job.id)
        if is_watched:
            sys.exit(watch_job(job, is_json=is_json))


def _from_json(text: str) -> dict[str, Any]:
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text()
        value = json.loads(text)
    except OSError as error:
        raise click.UsageError(f"--input {text}: {error.strerror}") from error
    except ValueError as error:
        raise click.UsageError(f"--input: {error}") from error
    if not isinstance(value, dict):
        raise click.UsageError("--input: an input is a JSON object")
    return value


def _from_pairs(pairs: tuple[str, ...], task: str, client: Client) -> dict[str, Any]:
    try:
        return parse_pairs(pairs, _input_schema(task, client) if pairs else {})
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _input_schema(task: str, client: Client) -> Mapping[str, Any]:
    try:
        tasks = client.tasks()
    except NotAllowed:
        # A key that may only submit: values are what they look like, and the server checks them.
        return {}
    for known in tasks:
        if known["name"] == task:
            return dict(known["input_schema"])
    raise UnknownTask(task)
