"""Web pages and this server: which may use it (CORS), and what others could do with a visitor's browser.

CORS is off but for the origins that `--cors` names. Cookies there are none, so a page cannot borrow
its visitor's key. But a server without keys takes every browser on its machine for its owner's:
whatever page is open there could submit, and one whose name is made to mean 127.0.0.1 (DNS
rebinding) could read as well. So without keys a foreign page's POST is refused, and so is a name
that is not this machine's. Clients that are no browsers send no Origin, and never notice.
"""

import flask

from rankcast.web import auth
from rankcast.web.exposure import host_of, is_loopback, is_own
from rankcast.web.falhosts import SERVICES
from rankcast.web.problems import ForeignRequest
from rankcast.web.services import services

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Seconds for which a browser need not ask again whether a page may.
PREFLIGHT_MAX_AGE_S = 600
ALLOWED = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT",
    "Access-Control-Allow-Headers": ", ".join(
        (
            *("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"),
            # fal's client, in its own words.
            *("x-fal-target-url", "x-fal-queue-priority", "x-fal-runner-hint"),
            *("x-fal-request-timeout", "x-fal-request-start-timeout"),
            *("x-fal-object-lifecycle", "x-fal-object-lifecycle-preference"),
        )
    ),
    "Access-Control-Max-Age": str(PREFLIGHT_MAX_AGE_S),
}
#: What pages may read beside the few headers that every page may.
EXPOSED = (
    "Link, Location, Retry-After, X-Rankcast-Job-Id, "
    "x-fal-request-id, x-fal-error-type, x-fal-request-timeout-type"
)


def answer_preflight() -> flask.Response | None:
    """A browser asks, without any key, whether an allowed page may send what it is about to."""
    request = flask.request
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return None
    return flask.Response(status=204, headers=ALLOWED) if _is_allowed() else None


def refuse_foreign() -> None:
    """ForeignRequest for what a hostile page could have sent to a server without keys."""
    to, request = services(), flask.request
    if to.keyring is not None or auth.answers_anybody(request):
        return
    host = request.headers.get("Host", "")
    # A name of fal's leads here through a client's proxy alone: nobody else can make it mean 127.0.0.1.
    is_ours = is_loopback(host_of(host)) or host_of(host).lower() in SERVICES
    if host and not to.settings.is_open and not is_ours:
        raise ForeignRequest(
            f"this server has no keys, so it answers to localhost and 127.0.0.1, not to {host[:100]!r}; "
            "give it keys (rankcast keys create), or --open"
        )
    if request.method not in SAFE_METHODS and not (_is_allowed() or _is_same_origin()):
        raise ForeignRequest(
            f"this server has no keys, and takes no {request.method} from a page of "
            f"{request.headers.get('Origin', 'elsewhere')[:100]!r}; give it keys, or --cors and that origin"
        )


def add_headers(response: flask.Response) -> flask.Response:
    """On every answer. The URL of a stream may have a token in it, which no other site is to be told, and
    no cache."""
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers.setdefault("Cache-Control", "no-store")
    if not services().settings.cors:
        return response
    response.vary.add("Origin")
    if _is_allowed():
        response.headers["Access-Control-Allow-Origin"] = flask.request.headers["Origin"]
        response.headers["Access-Control-Expose-Headers"] = EXPOSED
    return response


def _is_allowed() -> bool:
    return flask.request.headers.get("Origin") in services().settings.cors


def _is_same_origin() -> bool:
    """Whether the request comes from a page of this server, from the address bar, or from no browser."""
    site = flask.request.headers.get("Sec-Fetch-Site")
    if site is not None:
        # The browser knows best, also behind a proxy that changes Host.
        return site in ("same-origin", "none")
    origin = flask.request.headers.get("Origin")
    return origin is None or is_own(origin, flask.request.headers.get("Host", ""))
