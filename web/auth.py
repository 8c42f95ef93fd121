"""Who asks, and what they may. Decided before a body is read or Redis is asked anything.

Every route says by a decorator what it takes: `@needs(scope)` or `@open_to_all`. Without a file of
keys nobody is asked; with one, an empty one too, every route but the open ones wants a key:

    Authorization: Key rk_…        or Bearer, which every client can send

A job belongs to the key that submitted it. For any other it does not exist, unless that is an admin's.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import flask

from rankcast.tasks.errors import UnknownJob
from rankcast.web import tokens
from rankcast.web.body import job_id_of
from rankcast.web.keyring import ApiKey, KeyFileUnusable, Keyring, Scope
from rankcast.web.problems import KeyNeeded, KeysUnreadable, ScopeMissing
from rankcast.web.responses import urls
from rankcast.web.services import services
from rankcast.web.tokens import Purpose

SCHEMES = frozenset({"key", "bearer"})

log = logging.getLogger(__name__)

View = TypeVar("View", bound=Callable[..., Any])


class Access(NamedTuple):
    """What a route asks for. `scope` None: nothing. `by_token`: a token for that purpose will do."""

    scope: Scope | None
    by_token: Purpose | None = None


OPEN = Access(None)

#: What each view function was decorated with.
_ACCESS: dict[Callable[..., Any], Access] = {}


def needs(scope: str, *, by_token: Purpose | None = None) -> Callable[[View], View]:
    """The route wants a key with that scope, or a token that such a key signed, where there are keys."""

    def decorate(view: View) -> View:
        _ACCESS[view] = Access(Scope(scope), by_token)
        return view

    return decorate


def open_to_all(view: View) -> View:
    """The route answers anybody."""
    _ACCESS[view] = OPEN
    return view


def check_routes(app: flask.Flask) -> None:
    """ValueError for a route that does not say who may use it."""
    for rule in app.url_map.iter_rules():
        if app.view_functions[rule.endpoint] not in _ACCESS:
            raise ValueError(f"{rule.rule} needs @needs(scope) or @open_to_all")


def answers_anybody(request: flask.Request) -> bool:
    """Whether its route is open to all; what is no route is not."""
    return _asked_by(request) == OPEN


def admit() -> None:
    """Let the request in, or raise KeyNeeded, ScopeMissing, KeysUnreadable. Runs before every request."""
    keyring, asked = services().keyring, _asked_by(flask.request)
    if keyring is None or asked == OPEN:
        return
    try:
        key = _key_of(flask.request, keyring, asked)
    except KeyFileUnusable as error:
        log.error("nobody is let in: %s", error)
        raise KeysUnreadable("the server cannot read its keys; its log says why") from None
    if asked is not None and asked.scope is not None and not key.may(asked.scope):
        raise ScopeMissing(asked.scope)
    flask.g.key = key
    services().last_used.note(key.id)


def _asked_by(request: flask.Request) -> Access | None:
    """What the request's route asks for; None for what is no route."""
    if request.url_rule is None:
        return None
    return _ACCESS[flask.current_app.view_functions[request.url_rule.endpoint]]


def _key_of(request: flask.Request, keyring: Keyring, asked: Access | None) -> ApiKey:
    """The key that the request shows, or that signed its token."""
    purpose = None if asked is None else asked.by_token
    shown = request.headers.get("Authorization")
    if shown is not None:
        scheme, _, text = shown.partition(" ")
        text = text.strip() if scheme.lower() in SCHEMES else ""
        # Code for fal sends `id:secret`, and some of it takes no key without a colon; ours has none.
        key = keyring.find(text.rpartition(":")[2])
        if key is None and purpose is not None and purpose.is_sent:
            key = _signer_of(text, request, purpose, keyring)
        if key is None:
            raise KeyNeeded("this API key is unknown or was revoked; send Authorization: Key rk_…")
        return key
    token = request.args.get("token")
    if token is None or purpose is None or purpose.is_sent:
        raise KeyNeeded("send Authorization: Key rk_…; `rankcast keys create` makes one")
    key = _signer_of(token, request, purpose, keyring)
    if key is None:
        raise KeyNeeded(
            f"the token in this URL is not good for this {purpose.name}, or not any more; "
            "what told the URL tells a new one, asked with a key"
        )
    return key


def _signer_of(token: str, request: flask.Request, purpose: Purpose, keyring: Keyring) -> ApiKey | None:
    """The key that signed a token, if it is good for this request."""
    if request.method not in purpose.methods:
        return None
    subject = (request.view_args or {}).get(purpose.subject, "")
    return tokens.key_of(token, keyring, purpose, subject, now_s=time.time())


def shown_key() -> ApiKey | None:
    """Whose request this is; None where nobody is asked."""
    found: ApiKey | None = flask.g.get("key")
    return found


def owner() -> str:
    """Id of the key that asks: whose the jobs are that it submits. '' where there are no keys."""
    key = shown_key()
    return "" if key is None else key.id


def seen_owner() -> str:
    """Whose jobs the caller may see: its own id, or '' for everybody's."""
    key = shown_key()
    return "" if key is None or key.may(Scope.ADMIN) else key.id


def may_see(record_owner: str) -> bool:
    """Whether the caller may see a job of that owner."""
    return seen_owner() in ("", record_owner)


def visible(text: str) -> str:
    """A job id from a path, if it is of a job that the caller may see; UnknownJob for any other.

    Asks nothing of Redis where the caller may see all.
    """
    job_id = job_id_of(text)
    if seen_owner() and not may_see(services().store.owner(job_id)):
        raise UnknownJob(job_id)
    return job_id


def signed_urls(job_id: str) -> dict[str, str]:
    """The job's URLs, that of the stream with a token in it, for whoever cannot send a header."""
    found = urls(job_id)
    if token := signer(Scope.READ)(tokens.STREAM, job_id):
        found["stream"] += f"?token={token}"
    return found


def signer(scope: Scope) -> Callable[[Purpose, str], str]:
    """Makes the token that lets in whoever has it, of a purpose and its subject.

    '' where there are no keys, or the caller's lacks the scope. It may be used when the request is over.
    """
    key, for_s = shown_key(), services().settings.stream_token_s
    if key is None or not key.may(scope):
        return lambda purpose, subject: ""
    return lambda purpose, subject: tokens.sign(key, purpose, subject, time.time() + for_s)
