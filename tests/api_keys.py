"""A file of API keys with everybody that a test needs; `from api_keys import ...`."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rankcast.web.keyring import ApiKey, Scope, draw, editing


class Holder(NamedTuple):
    """Somebody with a key: its id, which jobs name as their owner, and its text."""

    id: str
    text: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Key {self.text}"}


def give(path: Path, name: str, scopes: Iterable[str] = ("submit", "read")) -> Holder:
    """A new key in the file."""
    key, text = draw(name, map(Scope, scopes))
    with editing(path) as keys:
        keys.append(key)
    return Holder(key.id, text)


def revoke(path: Path, holder: Holder) -> None:
    with editing(path) as keys:
        keys[:] = [_revoked(key) if key.id == holder.id else key for key in keys]


def _revoked(key: ApiKey) -> ApiKey:
    return replace(key, revoked="2026-01-31T12:00:00Z")
