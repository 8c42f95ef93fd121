"""`rankcast cancel`: stop a job."""

import json

import click

from rankcast.cli.options import command_line, job_argument, json_option, url_option
from rankcast.client import Client


@click.command()
@job_argument
@json_option
@url_option
def cancel(*, job_id: str, is_json: bool, url: str | None) -> None:
    """Ask for JOB to be cancelled, and print the state it is in now.

    A queued job ends at once; a running one is told, and ends a moment later.
    """
    with Client(url) as client:
        state = client.job(job_id).cancel()
    if is_json:
        click.echo(json.dumps({"job_id": job_id, "state": state}))
        return
    click.echo(state)
    if state in ("starting", "running"):
        click.echo(f"cancel is asked for; this shows how it ends: {command_line('watch', job_id)}", err=True)
