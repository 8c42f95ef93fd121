"""What clients upload, to be named in inputs: each file whole or not there, for a while, with its owner.

    <shared>/files/<id>/<name>
    <shared>/files/<id>/.about      {"owner", "expires_s"}: Unix time

The id is 128 random bits. Under `.<random>` it is still arriving, and nobody sees it.
"""

import contextlib
import errno
import filecmp
import json
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rankcast.tasks.artifacts import Opened, open_file
from rankcast.tasks.disk import NAME, remove, sync

#: Of an upload that stopped in the middle: how long what came of it stays.
HALF_TTL_S = 3600.0

#: As `new_id` draws them.
ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_ABOUT = ".about"


class Uploads:
    """The uploads in a folder. Safe to use from any thread and any host."""

    def __init__(self, root: Path, *, now_s: Callable[[], float] = time.time) -> None:
        self._root = root
        self._now_s = now_s

    def begin(self, name: str, *, owner: str, ttl_s: float, file_id: str | None = None) -> "Upload":
        """A new file, empty and not there yet, for `ttl_s` from now on, under an id that `new_id` drew.
        ValueError for a name or an id that no file may have; OSError."""
        file_id = new_id() if file_id is None else file_id
        if not (NAME.fullmatch(name) and ID.fullmatch(file_id)):
            raise ValueError(f"{file_id}/{name!r} cannot be a file's name")
        return Upload(self._root, file_id, name, {"owner": owner, "expires_s": self._now_s() + ttl_s})

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
            if ID.fullmatch(name) and self._is_over(path):
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
        if not ID.fullmatch(file_id):
            return None
        try:
            about: dict[str, Any] = json.loads((self._root / file_id / _ABOUT).read_bytes())
        except (OSError, ValueError):
            return None
        return about if self._now_s() < about["expires_s"] else None


class Upload:
    """One file that arrives. `finish` or `abandon` ends it. Several may arrive for one id."""

    def __init__(self, root: Path, file_id: str, name: str, about: dict[str, Any]) -> None:
        self.size = 0
        self._name = name
        self._id = file_id
        self._root = root
        self._about = about
        self._hidden = root / f".{new_id()}"
        self._hidden.mkdir(parents=True)
        try:
            (self._hidden / _ABOUT).write_text(json.dumps(about))
            self._file = (self._hidden / name).open("wb")
        except BaseException:
            remove(self._hidden)
            raise

    def write(self, data: bytes) -> None:
        """The next bytes of it. OSError when the disk does not take them."""
        self._file.write(data)
        self.size += len(data)

    def finish(self) -> str:
        """It is whole: on disk, and there for all in one step; its URL.

        FileExistsError when another one is there under its id. One that is the same is this one: a client
        that did not hear of its end sends it again.
        """
        self._file.close()
        for each in (self._hidden / self._name, self._hidden / _ABOUT, self._hidden):
            sync(each)
        try:
            os.rename(self._hidden, self._root / self._id)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not self._is_there():
                raise FileExistsError(f"there is another file of the id {self._id}") from error
        sync(self._root)
        return file_url(self._id, self._name)

    def abandon(self) -> None:
        """Nothing of it is left but what `finish` has let appear."""
        # A disk that is full does not take what is still buffered either.
        with contextlib.suppress(OSError):
            self._file.close()
        remove(self._hidden)

    def _is_there(self) -> bool:
        """Whether what is there under its id is the same file of the same owner."""
        there = self._root / self._id
        try:
            about = json.loads((there / _ABOUT).read_bytes())
            is_same = filecmp.cmp(self._hidden / self._name, there / self._name, shallow=False)
        except OSError:
            return False
        return is_same and about["owner"] == self._about["owner"]


def new_id() -> str:
    """An id that nobody guesses."""
    return secrets.token_hex(16)


def file_url(file_id: str, name: str) -> str:
    """Where the web tier has it."""
    return f"/files/{file_id}/{name}"


def tidy(name: str) -> str:
    """A client's name for a file, in the alphabet of names: without folders, `_` for what that lacks."""
    last = re.split(r"[/\\]", name)[-1]
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", last).lstrip("._-")
    stem, dot, suffix = plain.rpartition(".")
    return plain if len(plain) <= 128 else f"{stem[:100]}{dot}{suffix[-20:]}"
