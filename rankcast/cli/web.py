"""`rankcast web`: the web tier alone, for a deployment over several hosts."""

import os
import socket
from typing import Any

import click

from rankcast.cli.options import (
    WEB_MODULES,
    Failure,
    access_options,
    address_options,
    check_open,
    need_extra,
    redis_option,
    shared_option,
)
from rankcast.cli.processes import WebOptions, web_command, web_env


def listen(host: str, port: int, *, option: str = "--port") -> socket.socket:
    """A bound socket that listens; Failure, with the cure, where that address cannot be had.

    Bound here and inherited by gunicorn: an address in use is told at once, port 0 is known, and
    who connects while gunicorn starts is served when it has.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except socket.gaierror as error:
        raise Failure(f"--host {host}: {error.strerror}") from error
    except OSError as error:
        raise Failure(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}; "
            f"choose another {option} (0 takes any free one)"
        ) from error


def address(sock: socket.socket) -> str:
    """`host:port` of a bound socket, to be reached from this machine."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@click.command()
@address_options
@access_options
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Web processes.")
@shared_option
@redis_option("Redis with the jobs; default redis://127.0.0.1:6379/0.")
def web(*, host: str, port: int, **options: Any) -> None:
    """Run the web tier: takes jobs over HTTP, streams their events.

    It never sees the tasks' code: it reads what the workers registered in Redis.
    """
    need_extra("web", *WEB_MODULES)
    told = WebOptions(**options)
    check_open(host, keys=told.keys, is_open=told.is_open)
    sock = listen(host, port)
    os.set_inheritable(sock.fileno(), True)
    click.echo(f"rankcast web at http://{address(sock)}")
    command = web_command(sock.fileno(), told)
    os.execve(command[0], command, web_env(told, os.environ))
