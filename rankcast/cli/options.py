"""Options that several commands have, and what all of them do with an error."""

import difflib
import importlib.util
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from rankcast.cli.completion import job_ids, task_names
from rankcast.cli.processes import resolve_tasks
from rankcast.cli.show import clean
from rankcast.client import DEFAULT_URL, Client
from rankcast.errors import (
    InvalidInput,
    JobCancelled,
    JobFailed,
    RankcastError,
    RequestRefused,
    UnknownJob,
    UnknownTask,
)
from rankcast.web.exposure import is_loopback, origin_of
from rankcast.web.keyring import KeyFileUnusable, read_keys

F = TypeVar("F", bound=Callable[..., Any])

#: What `rankcast` exits with; `watch` and `submit --watch` tell the end of the job by it.
SUCCEEDED, FAILED, USAGE, CANCELLED, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 130

#: What the commands that run something need beside the base install: the extras `web` and `server`.
WEB_MODULES = (
    *("celery", "flask", "gevent", "gunicorn", "itsdangerous", "jsonschema", "orjson", "packaging", "redis"),
)
WORKER_MODULES = ("celery", "orjson", "pydantic", "redis", "safetensors", "torch")


class Failure(click.ClickException):
    """An error that ends the command: one line on stderr, and the exit code that tells its kind."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


def failure_of(error: RankcastError) -> Failure:
    """1 and 3 for how a job ended, 2 for what the command line got wrong, 1 for keys that cannot be read,
    4 for a server that could not be asked or refused."""
    if isinstance(error, JobFailed | JobCancelled):
        return Failure(clean(str(error)), FAILED if isinstance(error, JobFailed) else CANCELLED)
    if isinstance(error, InvalidInput):
        lines = [f"  {fault.path}: {fault.message}" for fault in error.faults]
        return Failure("\n".join(["the input does not fit the task:", *lines]), USAGE)
    if isinstance(error, KeyFileUnusable):
        return Failure(str(error))
    if isinstance(error, UnknownTask | UnknownJob):
        return Failure(str(error), USAGE)
    if isinstance(error, RequestRefused) and error.status in (400, 413, 422):
        return Failure(str(error), USAGE)
    return Failure(str(error), UNREACHABLE)


def _resolved(context: click.Context, param: click.Parameter, tasks: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(resolve_tasks(task, os.getcwd()) for task in tasks)
    except ValueError as error:
        raise click.BadParameter(str(error), context, param) from error


def tasks_option(command: F) -> F:
    return click.option(
        "--tasks",
        # Of a path it only has the `:` between several in the variable; a module is none.
        type=click.Path(),
        callback=_resolved,
        multiple=True,
        required=True,
        envvar="RANKCAST_TASKS",
        metavar="FILE_OR_MODULE",
        help="A Python file or module with @task classes; may be given several times.",
    )(command)


def redis_option(help: str) -> Callable[[F], F]:
    return click.option(
        "--redis-url",
        envvar="RANKCAST_REDIS_URL",
        metavar="URL",
        help=f"{help} rediss://:password@host:6379/0 works. [env: RANKCAST_REDIS_URL]",
    )


def shared_option(command: F) -> F:
    return click.option(
        "--shared",
        type=click.Path(file_okay=False, resolve_path=True),
        envvar="RANKCAST_SHARED",
        metavar="DIR",
        help="A folder that the web tier and all workers see, on every host: large results are fetched from "
        "there, and any worker goes on where another was lost. [env: RANKCAST_SHARED]",
    )(command)


def url_option(command: F) -> F:
    return click.option(
        "--url", envvar="RANKCAST_URL", metavar="URL", help=f"The server. [env: RANKCAST_URL; {DEFAULT_URL}]"
    )(command)


def keys_option(*, required: bool) -> Callable[[F], F]:
    """Where the API keys are; a command that works on them asks for it."""
    return click.option(
        "--keys",
        type=click.Path(dir_okay=False, resolve_path=True, path_type=Path),
        envvar="RANKCAST_KEYS",
        required=required,
        metavar="FILE",
        help="The file of API keys; `rankcast keys create` makes it. [env: RANKCAST_KEYS]",
    )


def _origins(context: click.Context, param: click.Parameter, origins: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(map(origin_of, origins))
    except ValueError as error:
        raise click.BadParameter(str(error), context, param) from error


def access_options(command: F) -> F:
    """Who may use a server: people with keys, pages of other origins."""
    cors_option = click.option(
        "--cors",
        multiple=True,
        callback=_origins,
        envvar="RANKCAST_CORS",
        metavar="ORIGIN",
        help="Let web pages of this origin use the server, such as https://example.com; several times. "
        "[env: RANKCAST_CORS]",
    )
    return keys_option(required=False)(cors_option(command))


def json_option(command: F) -> F:
    return click.option("--json", "is_json", is_flag=True, help="JSON, for programs.")(command)


def task_argument(command: F) -> F:
    return click.argument("task", shell_complete=task_names)(command)


def job_argument(command: F) -> F:
    return click.argument("job_id", metavar="JOB", shell_complete=job_ids)(command)


def command_line(*words: str) -> str:
    """`rankcast` with these words, as it has to be typed to reach the server of the command that runs."""
    context = click.get_current_context()
    is_typed = context.get_parameter_source("url") is ParameterSource.COMMANDLINE
    return shlex.join(["rankcast", *words, *(["--url", context.params["url"]] if is_typed else [])])


@contextmanager
def coming_back(*words: str) -> Iterator[None]:
    """Ctrl-C inside only ends the looking: 130, and the command that looks again."""
    try:
        yield
    except KeyboardInterrupt:
        form = ["--json"] if click.get_current_context().params["is_json"] else []
        click.echo(f"\nthe job goes on; come back to it with: {command_line(*words, *form)}", err=True)
        sys.exit(INTERRUPTED)


def address_options(command: F) -> F:
    for option in (
        click.option(
            "--open",
            "is_open",
            is_flag=True,
            envvar="RANKCAST_OPEN",
            help="Let others in without keys: a --host that they can reach. [env: RANKCAST_OPEN=1]",
        ),
        click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
        click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=8700,
            show_default=True,
            help="Port to listen on; 0 takes any free one.",
        ),
    ):
        command = option(command)
    return command


def check_open(host: str, *, keys: Path | None, is_open: bool) -> None:
    """Others may reach this server only with keys, or if that was asked for. KeyFileUnusable."""
    if keys is not None:
        if all(key.revoked is not None for key in read_keys(keys)):
            _warn(f"no key in {keys} lets anybody in; rankcast keys create NAME --keys {keys} makes one")
        return
    if is_loopback(host):
        return
    if not is_open:
        raise click.UsageError(
            f"{host} can be reached by others, and there are no keys: anybody could run jobs. "
            "Give it --keys FILE (rankcast keys create makes it), or --open if that is meant."
        )
    _warn(f"anybody who can reach {host} can run jobs and see all results; there are no keys")


def _warn(message: str) -> None:
    click.secho(f"warning: {message}", fg="yellow", err=True)


def need_extra(extra: str, *modules: str) -> None:
    """Fail, with the cure, where one of the modules is missing: `extra` is not installed."""
    missing = [name for name in dict.fromkeys(modules) if importlib.util.find_spec(name) is None]
    if missing:
        raise Failure(
            f"this command needs rankcast[{extra}] (missing: {', '.join(missing)}): "
            f"pip install 'rankcast[{extra}]'"
        )


def unknown_task(name: str, client: Client) -> Failure:
    """The error for a task nobody registered, with the name that may have been meant."""
    known = [task["name"] for task in client.tasks()]
    return Failure(f"there is no task {name!r}{did_you_mean(name, known)}", USAGE)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A hint to put behind an unknown name."""
    if not known:
        return "; none is registered yet: start a worker with --tasks"
    # `steps` for `acme/steps` is the likeliest slip, and difflib finds those two unlike.
    close = [full for full in known if full.partition("/")[2] == name]
    close = close or difflib.get_close_matches(name, known, n=3, cutoff=0.75)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; there are: {', '.join(sorted(known)[:20])}"
