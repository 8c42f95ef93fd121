"""Values on their way between fal's clients and jobs: what names a file is turned around."""

from collections.abc import Callable
from typing import Any

import flask

from rankcast.web import auth
from rankcast.web.exposure import host_of, is_loopback
from rankcast.web.fal import urls
from rankcast.web.falhosts import SERVICES
from rankcast.web.keyring import Scope
from rankcast.web.services import services


def inward(job_input: dict[str, Any]) -> dict[str, Any]:
    """An input as the task is to get it, the same object: URLs of files of this server are paths."""
    urls.all_relative(job_input, _own_names())
    return job_input


def outward(json_text: bytes) -> bytes:
    """An output, or the data of an event, as a client of fal's is to get it; both JSON text. The paths of
    files are URLs that a plain client opens, for as long as a stream's token is good."""
    return outlet()(json_text)


def outlet() -> Callable[[bytes], bytes]:
    """`outward` for a stream: to be made while the request is there, and used when it is over."""
    base, sign = public_base(), auth.signer(Scope.READ)
    return lambda json_text: urls.all_absolute(json_text, base, sign)


def link(path: str) -> str:
    """The URL of one file."""
    return urls.absolute(path, public_base(), auth.signer(Scope.READ))


def public_base() -> str:
    """Where anybody reaches this server, as far as it is known, without `/` at the end."""
    settings, request = services().settings, flask.request
    if settings.public_url is not None:
        return settings.public_url
    # A name of fal's leads here through the proxy of this client alone.
    if came_by_name() and (netloc := _bound()):
        return f"{request.scheme}://{netloc}"
    return request.root_url.rstrip("/")


def came_by_name() -> bool:
    """Whether the request came through a proxy, and named one of fal's hosts."""
    return host_of(flask.request.host).lower() in SERVICES


def _own_names() -> set[str]:
    """What this server is called before a path, as far as it is known; without schemes."""
    bases = {public_base(), flask.request.root_url.rstrip("/")}
    names = {base.partition("://")[2] for base in bases}
    if netloc := _bound():
        names.add(netloc)
        if is_loopback(host_of(netloc)):
            names.add(f"localhost:{netloc.rpartition(':')[2]}")
    return names


def _bound() -> str | None:
    """Address and port of this end of the connection; None where it has none, or the server does not tell.
    Unlike what the server is bound to it is never `0.0.0.0`."""
    connection = flask.request.environ.get("gunicorn.socket")
    address = connection.getsockname() if connection is not None else None
    if not isinstance(address, tuple):
        return None
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
