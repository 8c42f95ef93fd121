"""`rankcast up`: everything in one terminal."""

import sys
from pathlib import Path
from typing import Any

import click

from rankcast.cli.deployment import Deployment, Plan
from rankcast.cli.options import (
    WEB_MODULES,
    WORKER_MODULES,
    access_options,
    address_options,
    check_open,
    need_extra,
    redis_option,
    tasks_option,
)
from rankcast.cli.processes import WebOptions, WorkerOptions
from rankcast.cli.web import listen
from rankcast.cli.worker import slot_options


@click.command()
@tasks_option
@address_options
@access_options
@slot_options
@click.option("--web-workers", type=click.IntRange(1), default=1, show_default=True, help="Web processes.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep jobs, results and files here; without it they go when this ends. A file DIR/keys has "
    "the API keys, unless --keys names another.",
)
@redis_option("Use this Redis instead of one of its own.")
def up(
    *,
    host: str,
    port: int,
    is_open: bool,
    keys: Path | None,
    cors: tuple[str, ...],
    web_workers: int,
    data: Path | None,
    redis_url: str | None,
    **worker: Any,
) -> None:
    """Run Redis, web tier and a worker, all real processes, until Ctrl-C.

    Says in one line on stdout when all of it is up, and where. What the parts write goes to stderr,
    with their names. Exits with 0 when it was told to stop, 1 when a part ended by itself.
    """
    if data is not None and redis_url is not None:
        raise click.UsageError(
            "--data is for the Redis that `up` brings along, not for the one at --redis-url"
        )
    need_extra("server", *WEB_MODULES, *WORKER_MODULES)
    if keys is None and data is not None and (data / "keys").exists():
        keys = (data / "keys").resolve()
    check_open(host, keys=keys, is_open=is_open)
    plan = Plan(
        sock=listen(host, port),
        worker=WorkerOptions(redis_url=None, **worker),
        web=WebOptions(workers=web_workers, keys=keys, cors=cors, is_open=is_open),
        redis_url=redis_url,
        data=data,
    )
    sys.exit(Deployment(plan).run())
