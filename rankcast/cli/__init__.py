"""The command line: one file a command."""

import importlib.metadata

import click

from rankcast.cli.cancel import cancel
from rankcast.cli.keys import keys
from rankcast.cli.logs import logs
from rankcast.cli.options import failure_of
from rankcast.cli.status import status
from rankcast.cli.submit import submit
from rankcast.cli.tasks import tasks
from rankcast.cli.up import up
from rankcast.cli.watch import watch
from rankcast.cli.web import web
from rankcast.cli.worker import worker
from rankcast.errors import RankcastError

EPILOG = (
    "Exit codes: 0 done (watch: the job succeeded), 1 failed, 2 the command line was wrong, 3 the job was "
    "cancelled, 4 the server could not be reached or refused, 130 interrupted."
)


class Commands(click.Group):
    """Tells errors that Rankcast raises on purpose in one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except RankcastError as error:
            raise failure_of(error) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=Commands,
    commands={
        command.name or "": command
        for command in (up, submit, watch, status, tasks, logs, cancel, web, worker, keys)
    },
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
@click.version_option(importlib.metadata.version("rankcast"), prog_name="rankcast")
def main() -> None:
    """Queue jobs over HTTP, run them on your own GPU hosts, watch the results arrive.

    Start everything with `rankcast up --tasks FILE`, then `rankcast submit TASK key=value --watch`.
    """
