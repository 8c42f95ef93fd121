"""`rankcast logs`: what a job's ranks printed."""

import json

import click

from rankcast.cli.options import coming_back, job_argument, json_option, url_option
from rankcast.cli.show import clean
from rankcast.client import Client
from rankcast.transport import LogLine


@click.command()
@job_argument
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Go on until the job has ended.")
@json_option
@url_option
def logs(*, job_id: str, is_followed: bool, is_json: bool, url: str | None) -> None:
    """Print what the ranks of JOB wrote so far, each line with its rank and host."""
    show = _show_json if is_json else _show
    with Client(url) as client, coming_back("logs", *(["-f"] if is_followed else []), job_id):
        job = client.job(job_id)
        for line in job.follow_logs() if is_followed else job.logs():
            show(line)


def _show(line: LogLine) -> None:
    prefix = click.style(f"rank {line.rank} {clean(line.host)} |", dim=True)
    click.echo(f"{prefix} {clean(line.text)}", err=line.stream == "stderr")


def _show_json(line: LogLine) -> None:
    click.echo(json.dumps(line._asdict(), ensure_ascii=False))
