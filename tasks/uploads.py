"""What clients upload, to be named in inputs: each file whole or not there, for a while, with its owner.

    <shared>/files/<id>/<name>
    <shared>/files/<id>/.about      {"owner", "expires_s"}: Unix time

The id is 128 random bits. Under `.<id>` it is still arriving, and nobody sees it.
"""

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rankcast.tasks.artifacts import Opened, open_file
from rankcast.tasks.disk import NAME, remove, sync

#: Of an upload that stopped in the middle: how long what came of it stays.
HALF_TTL_S = 3600.0

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_ABOUT = ".about"


class Uploads:
    """The uploads in a folder. Safe to use from any thread and any host."""

    def __init__(self, root: Path, *, now_s: Callable[[], float] = time.time) -> None:
        self._root = root
        self._now_s = now_s

    def begin(self, name: str, *, owner: str, ttl_s: float) -> "Upload":
        """A new file, empty and not there yet, for `ttl_s` from now on. ValueError for a name that no file
        may have; OSError."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a file's name")
        return Upload(self._root, name, {"owner": owner, "expires_s": self._now_s() + ttl_s})

    def open(self, file_id: str, name: str) -> Opened | None:
        """A file, to be read; None if there is none, or its time is over."""
        if not NAME.fullmatch(name) or self._about(file_id) is None:
            return None
        return open_file(self._root / file_id / name)

    def owner(self, file_id: str) -> str | None:
        """Whose it is; None if there is none."""
        about = self._about(file_id)
        return None if about is None else str(about["owner"])

    def remove_expired(self) -> list[str]:
        """Remove what nobody may read any more, and what never became whole; the ids."""
        if not self._root.is_dir():
            return []
        gone = []
        for path in self._root.iterdir():
            name = path.name.removeprefix(".")
            if _ID.fullmatch(name) and self._is_over(path):
                remove(path)
                gone.append(name)
        return gone

    def _is_over(self, path: Path) -> bool:
        if not path.name.startswith("."):
            return self._about(path.name) is None
        try:
            touched_s = max(each.stat().st_mtime for each in (path, *path.iterdir()))
        except OSError:
            return False
        return touched_s + HALF_TTL_S < self._now_s()

    def _about(self, file_id: str) -> dict[str, Any] | None:
        if not _ID.fullmatch(file_id):
            return None
        try:
            about: dict[str, Any] = json.loads((self._root / file_id / _ABOUT).read_bytes())
        except (OSError, ValueError):
            return None
        return about if self._now_s() < about["expires_s"] else None


class Upload:
    """One file that arrives. `finish` or `abandon` ends it."""

    def __init__(self, root: Path, name: str, about: dict[str, Any]) -> None:
        self.size = 0
        self._name = name
        self._id = secrets.token_hex(16)
        self._root = root
        self._hidden = root / f".{self._id}"
        self._hidden.mkdir(parents=True)
        (self._hidden / _ABOUT).write_text(json.dumps(about))
        self._file = (self._hidden / name).open("wb")

    def write(self, data: bytes) -> None:
        """The next bytes of it. OSError when the disk does not take them."""
        self._file.write(data)
        self.size += len(data)

    def finish(self) -> str:
        """It is whole: on disk, and there for all in one step; its URL."""
        self._file.close()
        for each in (self._hidden / self._name, self._hidden / _ABOUT, self._hidden):
            sync(each)
        os.rename(self._hidden, self._root / self._id)
        sync(self._root)
        return file_url(self._id, self._name)

    def abandon(self) -> None:
        """It will never be whole: nothing of it is left. After `finish` this does nothing."""
        self._file.close()
        shutil.rmtree(self._hidden, ignore_errors=True)


def file_url(file_id: str, name: str) -> str:
    """Where the web tier has it."""
    return f"/files/{file_id}/{name}"


def tidy(name: str) -> str:
    """A client's name for a file, in the alphabet of names: without folders, `_` for what that lacks."""
    last = re.split(r"[/\\]", name)[-1]
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", last).lstrip("._-")
    stem, dot, suffix = plain.rpartition(".")
    return plain if len(plain) <= 128 else f"{stem[:100]}{dot}{suffix[-20:]}"
