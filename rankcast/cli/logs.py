"""`rankcast logs`: what a job's ranks printed."""

import click

from rankcast.cli.options import url_option
from rankcast.cli.show import clean
from rankcast.client import Client


@click.command()
@click.argument("job_id", metavar="JOB")
@url_option
def logs(*, job_id: str, url: str | None) -> None:
    """Print what the ranks of JOB wrote so far, each line with its rank and host."""
    with Client(url) as client:
        for line in client.job(job_id).logs():
            prefix = click.style(f"rank {line.rank} {clean(line.host)} |", dim=True)
            click.echo(f"{prefix} {clean(line.text)}", err=line.stream == "stderr")
