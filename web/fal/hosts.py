"""fal has a host for each of its services; here each is a folder of one server.

Three ways lead there, and end in the same routes:

* a client is told `FAL_RUN_HOST=127.0.0.1:8700/run`: the path is right already;
* it goes through a proxy, and its requests still name fal's hosts: `Host: queue.fal.run`;
* it sends everything to `/api/fal/proxy`, and says in a header what it meant: `x-fal-target-url`.
"""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from rankcast.web.exposure import host_of
from rankcast.web.falhosts import FOLDERS, SERVICES

PROXY_PATH = "/api/fal/proxy"
_TARGET = "HTTP_X_FAL_TARGET_URL"
#: In the environment of a request that named one of fal's hosts: which.
NAMED_HOST = "rankcast.fal_host"

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Dispatch:
    """WSGI middleware: a request that means one of fal's hosts goes to that service's folder.

    What it cannot place stays where it is, for a route to refuse.
    """

    def __init__(self, app: Wsgi) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        host = host_of(environ.get("HTTP_HOST", "")).lower()
        if host in SERVICES:
            environ[NAMED_HOST] = host
            environ["PATH_INFO"] = SERVICES[host] + environ["PATH_INFO"]
        elif environ["PATH_INFO"].rstrip("/") == PROXY_PATH and _TARGET in environ:
            environ.update(_aimed_at(environ[_TARGET]))
        if environ["PATH_INFO"].startswith(FOLDERS):
            # Some of fal's clients end every path so. Below an id of any length it would be a part of that.
            environ["PATH_INFO"] = environ["PATH_INFO"].rstrip("/")
        return self._app(environ, start_response)


def _aimed_at(target: str) -> dict[str, Any]:
    """What changes of a request that is meant for the URL `target`; nothing if that is not fal's."""
    try:
        url = urlsplit(target)
        service = SERVICES.get(url.hostname or "")
    except ValueError:
        return {}
    if service is None:
        return {}
    # WSGI has paths as bytes in latin-1 (PEP 3333).
    path = unquote(url.path or "/").encode().decode("latin-1")
    return {
        NAMED_HOST: url.hostname,
        "PATH_INFO": service + path,
        "QUERY_STRING": url.query,
    }
