"""The command line: one file a command."""

import importlib.metadata
import os
import signal
import sys

import click

from rankcast.cli.cancel import cancel
from rankcast.cli.keys import keys
from rankcast.cli.logs import logs
from rankcast.cli.options import INTERRUPTED, USAGE, Failure, failure_of
from rankcast.cli.result import result
from rankcast.cli.status import status
from rankcast.cli.submit import submit
from rankcast.cli.tasks import tasks
from rankcast.cli.trace import trace
from rankcast.cli.up import up
from rankcast.cli.watch import watch
from rankcast.cli.web import web
from rankcast.cli.worker import worker
from rankcast.errors import RankcastError

EPILOG = (
    "Exit codes: 0 done (watch, result: the job succeeded), 1 failed, 2 the command line was wrong, 3 the "
    "job was cancelled, 4 the server could not be reached or refused, 130 interrupted. RANKCAST_URL names "
    'the server, RANKCAST_KEY its key. Completion: eval "$(_RANKCAST_COMPLETE=bash_source rankcast)"; '
    "zsh_source and fish_source are there too."
)


class Commands(click.Group):
    """Tells errors that are made on purpose in one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except RankcastError as error:
            raise failure_of(error) from error
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            asked = (error.ctx or ctx).command_path
            raise Failure(f"{error.format_message()} (`{asked} --help` says more)", USAGE) from error
        except KeyboardInterrupt as error:
            raise Failure("interrupted", INTERRUPTED) from error
        except BrokenPipeError as error:
            # Who reads has enough, as `head` does: no word of it, and the code of a program that
            # SIGPIPE ends. What is still in the buffer must not fail at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(128 + signal.SIGPIPE) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=Commands,
    commands={
        command.name or "": command
        for command in (up, submit, watch, result, status, tasks, logs, trace, cancel, keys, web, worker)
    },
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
@click.version_option(importlib.metadata.version("rankcast"), prog_name="rankcast")
def main() -> None:
    """Queue jobs over HTTP, run them on your own GPU hosts, watch the results arrive.

    Start everything with `rankcast up --tasks FILE`, then `rankcast submit TASK key=value --watch`.
    """
