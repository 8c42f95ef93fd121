"""`rankcast up`: everything in one terminal."""

import os
import sys
from pathlib import Path
from socket import socket
from typing import Any

import click

from rankcast.cli.certificates import TRUST, make_certificates
from rankcast.cli.deployment import Deployment, Plan, Tls
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
from rankcast.web.falhosts import SERVICES


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
@click.option(
    "--tls",
    "is_tls",
    is_flag=True,
    help="Serve HTTPS, which fal's Python client insists on, by an authority of its own that stays in "
    "--data; says what to export for fal's clients.",
)
@click.option(
    "--proxy-port",
    type=click.IntRange(0, 65535),
    default=8701,
    show_default=True,
    help="With --tls: port on 127.0.0.1 of a proxy that leads fal's hosts here; 0 takes any free one.",
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
    is_tls: bool,
    proxy_port: int,
    redis_url: str | None,
    **worker: Any,
) -> None:
    """Run Redis, web tier and a worker, all real processes, until Ctrl-C.

    Says in one line on stdout when all of it is up, and where. What the parts write goes to stderr,
    with their names. Exits with 0 when it was told to stop, 1 when a part ended by itself.
    """
    if is_tls and redis_url is not None:
        raise click.UsageError(
            "--tls needs the Redis that `up` brings along, with --data DIR: leave out --redis-url "
            "(RANKCAST_REDIS_URL); with a Redis of your own, put a TLS proxy in front of `rankcast web`"
        )
    if data is not None and redis_url is not None:
        raise click.UsageError(
            "--data is for the Redis that `up` brings along, not for the one at --redis-url"
        )
    if is_tls and data is None:
        raise click.UsageError("--tls keeps its authority with the data: name a folder, --data DIR")
    need_extra("server", *WEB_MODULES, *WORKER_MODULES, *(("trustme",) if is_tls else ()))
    if keys is None and data is not None and (data / "keys").exists():
        keys = (data / "keys").resolve()
    check_open(host, keys=keys, is_open=is_open)
    sock = listen(host, port)
    tls = None if data is None or not is_tls else _tls(sock, host, data.resolve(), proxy_port)
    plan = Plan(
        sock=sock,
        worker=WorkerOptions(redis_url=None, **worker),
        web=WebOptions(
            workers=web_workers,
            keys=keys,
            cors=cors,
            is_open=is_open,
            certificate=None if tls is None else tls.certificates.server,
        ),
        redis_url=redis_url,
        data=data,
        tls=tls,
    )
    sys.exit(Deployment(plan).run())


def _tls(sock: socket, host: str, data: Path, proxy_port: int) -> Tls:
    """Failure where there can be none."""
    names = {host, "localhost", "127.0.0.1", "::1", sock.getsockname()[0], *SERVICES} - {"0.0.0.0", "::"}
    certificates = make_certificates(data, sorted(names), os.environ)
    # All that is started here, and this process, may have to ask the server, too.
    os.environ[TRUST] = str(certificates.bundle)
    return Tls(certificates=certificates, proxy=listen("127.0.0.1", proxy_port, option="--proxy-port"))
