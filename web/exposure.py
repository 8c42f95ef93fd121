"""Who can reach this server.  Pure; it needs Python alone, so that the command line has it, too."""

import functools
import ipaddress
import re


@functools.lru_cache(256)
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`, an address or a name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # RFC 6761, section 6.3: these names are of this machine, for whoever looks them up.
        name = host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")


def host_of(netloc: str) -> str:
    """`example.com:8700` and `[::1]:8700` without port and brackets."""
    if netloc.startswith("["):
        return netloc[1:].partition("]")[0]
    return netloc.partition(":")[0]


_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?", re.ASCII)


def origin_of(text: str) -> str:
    """A web page's origin as browsers write it, scheme, host and port (RFC 6454, section 6.2).

    ValueError for anything else: `*` would be everybody, `null` any page that hides its own, and
    what has a path would never be met.
    """
    origin = text.lower()
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(
            f"{text!r} is no origin; one looks like https://example.com or http://localhost:5173"
        )
    scheme, _, netloc = origin.partition("://")
    return f"{scheme}://{netloc.removesuffix(_DEFAULT_PORTS[scheme])}"


#: Browsers leave these out.
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def is_own(origin: str, host: str) -> bool:
    """Whether a page of that origin came from the server that is called `host` in its request.

    The scheme is not compared: a proxy may have taken TLS off.
    """
    scheme, _, netloc = origin.lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme, "")
    return netloc != "" and netloc.removesuffix(port) == host.lower().removesuffix(port)
