"""The API keys of a deployment: a file of hashes, one JSON object a line.

    {"id": "5f0c…", "name": "ci", "hash": "9b1a…", "scopes": ["read", "submit"],
     "created": "2026-01-31T12:00:00Z", "revoked": null}

A key reads `rk_<id>_<secret>`. The file has its SHA-256 alone: of 256 random bits nobody finds the key
again, so no slow hash is needed. Whoever writes the file holds its lock and puts a whole new one in
its place; whoever reads it looks at each request whether it is another one by now, so a key works, or
is revoked, at once. A file that cannot be used lets nobody in: a mistake must not open a server.

It needs Python alone, so `rankcast keys` works on every install.
"""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from rankcast.tasks.disk import sync
from rankcast.tasks.errors import RankcastError

#: How a key begins, so that people and scanners for leaked secrets know it at sight.
PREFIX = "rk"
MAX_NAME = 100


class Scope(StrEnum):
    """What a key lets its holder do: run and cancel jobs, look at its own, or all that with everybody's."""

    SUBMIT = "submit"
    READ = "read"
    ADMIN = "admin"


class KeyFileUnusable(RankcastError):
    """Raised when the file of keys is missing, open to others, or broken; says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What the file knows of one key. `id` is no secret: jobs name it as their owner. Times are UTC."""

    id: str
    name: str
    hash: str
    scopes: frozenset[Scope]
    created: str
    revoked: str | None = None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


def draw(name: str, scopes: Iterable[Scope], now: datetime | None = None) -> tuple[ApiKey, str]:
    """A new key: what the file is to know of it, and its text, which nobody can make again."""
    key_id = secrets.token_hex(6)
    text = f"{PREFIX}_{key_id}_{secrets.token_hex(32)}"
    created = utc_text(now or datetime.now(UTC))
    return ApiKey(id=key_id, name=name, hash=hash_of(text), scopes=frozenset(scopes), created=created), text


#: Id of the key that whoever started a server keeps for itself; `draw` never gives it.
STARTER = "starter"


def draw_starter_key() -> str:
    """The text of a key for whoever starts a server, and goes when it does."""
    return f"{PREFIX}_{STARTER}_{secrets.token_hex(32)}"


def starter_key(hash: str) -> ApiKey:
    """What the server is to know of it: it may everything."""
    return ApiKey(id=STARTER, name=STARTER, hash=hash, scopes=frozenset({Scope.ADMIN}), created="")


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def utc_text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Keyring:
    """The keys as the file has them now. Safe to share between threads.

    Every method raises KeyFileUnusable. `standing` is a key that no file has: that of whoever started
    this server.
    """

    def __init__(self, path: Path, standing: ApiKey | None = None) -> None:
        self._path = path
        self._standing = [] if standing is None else [standing]
        self._read = _Read(None, {})

    def find(self, text: str) -> ApiKey | None:
        """The key that reads so; None for one that nobody has, or that was revoked."""
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        key = self.by_id(key_id) if prefix == PREFIX and secret else None
        if key is None or not hmac.compare_digest(hash_of(text), key.hash):
            return None
        return key

    def by_id(self, key_id: str) -> ApiKey | None:
        """The key of that id, unless it was revoked."""
        key = self._keys().get(key_id)
        return None if key is None or key.revoked is not None else key

    def _keys(self) -> Mapping[str, ApiKey]:
        read = self._read
        if read.stamp is None or read.stamp != _stamp_at(self._path):
            stamp, keys = _load(self._path)
            # One assignment: another thread sees the old file or the new one, whole.
            self._read = read = _Read(stamp, {key.id: key for key in (*keys, *self._standing)})
        return read.keys


def read_keys(path: Path) -> list[ApiKey]:
    """All keys of the file, the revoked ones too, oldest first. KeyFileUnusable."""
    return _load(path)[1]


@contextmanager
def editing(path: Path) -> Iterator[list[ApiKey]]:
    """The keys, to be changed: what the list holds at the end is the file, in one step for its readers.

    A file that is not there begins empty. KeyFileUnusable; nothing is changed if the block raises.
    """
    path = path.resolve()
    with _locked(path):
        keys = read_keys(path) if path.exists() else []
        before = list(keys)
        yield keys
        if keys != before:
            _replace(path, "".join(json.dumps(_as_json(key)) + "\n" for key in keys))


class _Read(NamedTuple):
    """What was read, and of which state of the file; None: nothing yet."""

    stamp: "tuple[int, ...] | None"
    keys: Mapping[str, ApiKey]


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    """Differs once somebody has replaced, written or opened up the file."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _stamp_at(path: Path) -> tuple[int, ...] | None:
    try:
        return _stamp(path.stat())
    except OSError:
        return None


def _load(path: Path) -> tuple[tuple[int, ...], list[ApiKey]]:
    try:
        with path.open(encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            lines = list(enumerate(file.read().splitlines(), 1))
    except FileNotFoundError:
        raise KeyFileUnusable(
            f"there is no file of keys at {path}: rankcast keys create NAME --keys {path} makes it"
        ) from None
    except (OSError, ValueError) as error:
        raise KeyFileUnusable(f"the file of keys at {path} cannot be read: {error}") from error
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileUnusable(f"others may read or write the file of keys at {path}: chmod 600 {path}")
    keys = [_parsed(path, number, line) for number, line in lines if line.strip()]
    if len({key.id for key in keys}) < len(keys):
        raise KeyFileUnusable(f"the file of keys at {path} has an id twice: remove one of the two lines")
    return _stamp(found), keys


_FIELDS = {field.name for field in fields(ApiKey)}
_TEXTS = ("id", "name", "hash", "created")


def _parsed(path: Path, number: int, line: str) -> ApiKey:
    try:
        told: Any = json.loads(line)
        # A field that a newer version wrote may be a limit, which this one would not keep.
        if not isinstance(told, dict) or told.keys() != _FIELDS:
            raise ValueError(f"it must have {', '.join(sorted(_FIELDS))}, and nothing else")
        revoked = told["revoked"] or ""
        if not all(isinstance(told[name], str) for name in _TEXTS) or not isinstance(revoked, str):
            raise ValueError(f"{', '.join(_TEXTS)} and revoked must be strings")
        return ApiKey(**told | {"scopes": frozenset(map(Scope, told["scopes"]))})
    except (ValueError, TypeError) as error:
        raise KeyFileUnusable(
            f"line {number} of the file of keys at {path} is no key ({error}): "
            "put back what it was, or remove the line"
        ) from error


def _as_json(key: ApiKey) -> dict[str, Any]:
    return asdict(key) | {"scopes": sorted(key.scopes)}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """A file beside it, because a lock on the file itself would be on the one that was replaced."""
    try:
        lock = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KeyFileUnusable(f"cannot write beside {path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _replace(path: Path, text: str) -> None:
    """Put a whole new file in its place, for this user alone, or for who had the old one."""
    try:
        # mkstemp gives 0600.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                if path.exists() and (had := path.stat()).st_uid != os.geteuid():
                    # Root edits what a server of another user reads.
                    os.fchown(file.fileno(), had.st_uid, had.st_gid)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
        # A key that was shown is in the file after a loss of power, and one that was revoked is not.
        sync(path.parent)
    except OSError as error:
        raise KeyFileUnusable(f"cannot write {path}: {error.strerror}") from error


def chosen(keys: Sequence[ApiKey], id_or_name: str) -> ApiKey | None:
    """The key of that id; else the one of that name, one that is not revoked before those that are."""
    named = [key for key in keys if key.name == id_or_name]
    live = [key for key in named if key.revoked is None]
    return next((key for key in keys if key.id == id_or_name), next(iter(live or named), None))
