"""`rankcast cancel`: stop a job."""

import click

from rankcast.cli.options import url_option
from rankcast.client import Client


@click.command()
@click.argument("job_id", metavar="JOB")
@url_option
def cancel(*, job_id: str, url: str | None) -> None:
    """Ask for JOB to be cancelled, and print the state it is in now.

    A queued job ends at once; a running one is told, and ends a moment later.
    """
    with Client(url) as client:
        state = client.job(job_id).cancel()
    click.echo(state)
    if state in ("starting", "running"):
        click.echo("cancel is asked for; `rankcast watch` shows how it ends", err=True)
