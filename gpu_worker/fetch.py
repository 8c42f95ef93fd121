"""Step 6. A file from another host, where the worker's list allows that.

An input may come from anybody, and this process stands inside somebody's network. So only hosts that
were listed are asked, each name is resolved once, what it resolves to must be public, and that very
address is connected to; a redirect is another URL, judged again. No proxy, no credentials, http alone.
"""

import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from rankcast.tasks.errors import InputNotFetched

MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PORTS = {"http": 80, "https": 443}
CHUNK_BYTES = 256 * 1024

_PLAIN = re.compile(r"[!-\[\]-~]+", re.ASCII)
_ENTRY = re.compile(
    r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:(?P<port>[0-9]{1,5}))?(=(?P<address>\S+))?"
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Host:
    """One that may be asked. `port` None: the usual one of the scheme. `address`: where it is, whatever a
    resolver says, and also where that is not public."""

    name: str
    port: int | None
    address: Address | None

    @classmethod
    def parse(cls, text: str) -> "Host":
        """`name`, `name:port` or an address instead of a name, each with `=address` if that is to be used.
        ValueError."""
        found = _ENTRY.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{text!r} is no host: NAME, NAME:PORT or NAME=ADDRESS")
        name = found["name"].strip("[]").lower()
        address = _literal(found["address"] or name)
        if found["address"] and address is None:
            raise ValueError(f"{text!r}: {found['address']} is no address")
        return cls(name, int(found["port"]) if found["port"] else None, address)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one fetch, its redirects included."""

    max_bytes: int
    timeout_s: float


def fetch(url: str, path: Path, *, hosts: Sequence[Host], limits: Limits, resolve: Any = None) -> None:
    """Write what `url` names to `path`. InputNotFetched for whatever stands in the way but this disk.

    `resolve` is socket.getaddrinfo unless a test says otherwise.
    """
    deadline = time.monotonic() + limits.timeout_s
    for _ in range(MAX_REDIRECTS + 1):
        target = _judged(url, hosts)
        addresses = _addresses(target, resolve or socket.getaddrinfo)
        with _answer(target, addresses, deadline) as (response, is_late):
            if response.status not in REDIRECTS:
                _save(response, path, url, limits, is_late)
                return
            url = urljoin(url, response.headers.get("Location") or "")
    raise InputNotFetched(f"{_shown(url)}: more than {MAX_REDIRECTS} redirects")


def is_public(address: Address) -> bool:
    """Whether the internet knows it: no private, local, reserved or multicast one, in no disguise."""
    if isinstance(address, ipaddress.IPv6Address):
        hidden = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            hidden = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if hidden is not None:
            return is_public(hidden)
    return address.is_global and not address.is_multicast and not address.is_reserved


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL that may be asked for."""

    scheme: str
    host: Host
    port: int
    path: str

    @property
    def shown(self) -> str:
        """The host as a request names it: a signed URL is one of the name alone."""
        name = f"[{self.host.name}]" if ":" in self.host.name else self.host.name
        return name if self.port == PORTS[self.scheme] else f"{name}:{self.port}"


def _judged(url: str, hosts: Sequence[Host]) -> _Target:
    # What parsers read differently (backslashes, blanks, line ends, other alphabets) is not read at all.
    if not _PLAIN.fullmatch(url):
        raise InputNotFetched(f"{_shown(url)}: not a plain URL")
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port
    except ValueError:
        raise InputNotFetched(f"{_shown(url)}: not a URL") from None
    if parts.scheme not in PORTS:
        raise InputNotFetched(f"{_shown(url)}: only http and https can be fetched")
    if "@" in parts.netloc:
        raise InputNotFetched(f"{_shown(url)}: a URL with a user name or password is not fetched")
    port = PORTS[parts.scheme] if port is None else port
    for host in hosts:
        if host.name == name and port == (host.port or PORTS[parts.scheme]):
            query = f"?{parts.query}" if parts.query else ""
            return _Target(parts.scheme, host, port, f"{parts.path or '/'}{query}")
    raise InputNotFetched(
        f"{_shown(url)}: {name or 'no host'} is not on this worker's list (rankcast worker --fetch-host HOST)"
    )


def _addresses(target: _Target, resolve: Callable[..., Any]) -> list[str]:
    if target.host.address is not None:
        return [str(target.host.address)]
    try:
        found = resolve(target.host.name, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InputNotFetched(f"{target.host.name}: {error.strerror or error}") from error
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    for text in addresses:
        address = _literal(text)
        if address is None or not is_public(address):
            raise InputNotFetched(
                f"{target.host.name} is at {text}, which is not public; if that is meant, list it as "
                f"{target.host.name}={text}"
            )
    return addresses


@contextlib.contextmanager
def _answer(
    target: _Target, addresses: Sequence[str], deadline: float
) -> Iterator[tuple[http.client.HTTPResponse, threading.Event]]:
    """The head of the answer. The event is set when time is over, and the connection cut."""
    is_late = threading.Event()
    with contextlib.ExitStack() as stack:
        try:
            sock = stack.enter_context(_connected(addresses, target.port, deadline))
            if target.scheme == "https":
                # Not yet a handshake: what may take its time begins under the watch.
                sock = stack.enter_context(
                    ssl.create_default_context().wrap_socket(
                        sock, server_hostname=target.host.name, do_handshake_on_connect=False
                    )
                )
            watch = threading.Timer(max(0.0, deadline - time.monotonic()), _cut, [sock, is_late])
            watch.daemon = True
            watch.start()
            stack.callback(watch.cancel)
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            connection = http.client.HTTPConnection(target.host.name, target.port)
            connection.sock = sock
            connection.request("GET", target.path, headers={"Host": target.shown, "User-Agent": "rankcast"})
            response = stack.enter_context(connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            why = "it takes too long" if is_late.is_set() else f"{type(error).__name__}: {error}"
            raise InputNotFetched(f"{target.host.name}: {why}") from error
        yield response, is_late


def _connected(addresses: Sequence[str], port: int, deadline: float) -> socket.socket:
    """To the first that answers; these addresses, and no name, so nothing is resolved again."""
    failed = OSError("it has no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), max(0.01, deadline - time.monotonic()))
        except OSError as error:
            failed = error
    raise failed


def _cut(sock: socket.socket, is_late: threading.Event) -> None:
    is_late.set()
    with contextlib.suppress(OSError):
        # Of the connection itself: TLS would first take its own state away from who reads.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _save(
    response: http.client.HTTPResponse, path: Path, url: str, limits: Limits, is_late: threading.Event
) -> None:
    if response.status != 200:
        raise InputNotFetched(f"{_shown(url)}: it answered {response.status}")
    left = limits.max_bytes
    with path.open("wb") as file:
        while chunk := _chunk(response, url, is_late):
            left -= len(chunk)
            if left < 0 or (response.length or 0) > left:
                raise InputNotFetched(f"{_shown(url)}: it has more than {limits.max_bytes} bytes")
            file.write(chunk)
    if is_late.is_set():
        raise InputNotFetched(f"{_shown(url)}: it took longer than {limits.timeout_s:g} s")
    if response.length:
        raise InputNotFetched(f"{_shown(url)}: it broke off, {response.length} bytes before its end")


def _chunk(response: http.client.HTTPResponse, url: str, is_late: threading.Event) -> bytes:
    try:
        return response.read1(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        if is_late.is_set():
            return b""
        raise InputNotFetched(f"{_shown(url)}: {type(error).__name__}: {error}") from error


def _literal(text: str) -> Address | None:
    try:
        # Without the zone of a link-local address.
        return ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _shown(url: str) -> str:
    """As an error may tell it: short, and without what may be a secret in its query."""
    return ascii(url.partition("?")[0][:200])[1:-1]
