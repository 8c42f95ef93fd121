"""`rankcast worker`: one worker on a GPU host."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from rankcast.cli.options import WORKER_MODULES, need_extra, redis_option, shared_option, tasks_option
from rankcast.cli.processes import WorkerOptions, worker_command, worker_env

F = TypeVar("F", bound=Callable[..., Any])


def slot_options(command: F) -> F:
    """What both `worker` and `up` can be told about devices, slots and files."""
    for option in (
        click.option("--warm", multiple=True, metavar="TASK", help="Load this task before its first job."),
        click.option("--slots", type=click.IntRange(1), help="On the CPU: how many jobs run at a time."),
        click.option(
            "--slot-gpus", type=click.IntRange(1), help="GPUs of one slot; default: the largest task's."
        ),
        click.option("--gpus", metavar="0-3", help="GPUs to use; default: all visible; none: the CPU."),
        click.option(
            "--fetch-host",
            multiple=True,
            metavar="HOST",
            help="Tasks may fetch inputs from this host: NAME, NAME:PORT, or NAME=ADDRESS for one that is "
            "not public.",
        ),
        shared_option,
    ):
        command = option(command)
    return command


@click.command()
@tasks_option
@slot_options
@click.option("--host-name", envvar="RANKCAST_HOST", help="Name of this host in jobs, logs and status.")
@redis_option("Redis with the jobs; default redis://127.0.0.1:6379/0.")
def worker(**options: Any) -> None:
    """Run the jobs of some tasks on this host.

    A stock Celery worker: `celery -A rankcast.gpu_worker.worker worker` with RANKCAST_TASKS set is
    the same. SIGTERM lets the running jobs finish first.
    """
    need_extra("server", *WORKER_MODULES)
    told = WorkerOptions(**options)
    command = worker_command(told.host_name)
    os.execve(command[0], command, worker_env(told, os.environ, os.getcwd()))
