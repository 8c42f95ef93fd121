"""Step 6. What an input names by a URL, as a file in the attempt's own scratch folder."""

import base64
import binascii
import itertools
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from rankcast.gpu_worker.fetch import Host, Limits, fetch
from rankcast.tasks.artifacts import Artifacts, Opened, suffix_of
from rankcast.tasks.errors import InputNotFetched
from rankcast.tasks.uploads import Uploads, tidy

_FILE = re.compile(r"/files/([^/]+)/([^/]+)")
_ARTIFACT = re.compile(r"/jobs/([^/]+)/artifacts/([^/]+)")


class InputFiles:
    """Fetches on one rank, for one attempt. Safe to use from any thread.

    `scratch` is a folder that may not be there yet; `uploads` and `artifacts` are None where this worker
    shares no folder with the web tier. Files there are the job's if their `owner` is its.
    """

    def __init__(
        self,
        scratch: Path,
        *,
        prefix: str,
        limits: Limits,
        owner: str = "",
        uploads: Uploads | None = None,
        artifacts: Artifacts | None = None,
        hosts: Sequence[Host] = (),
    ) -> None:
        self._scratch = scratch
        self._prefix = prefix
        self._limits = limits
        self._owner = owner
        self._uploads = uploads
        self._artifacts = artifacts
        self._hosts = hosts
        self._numbers = itertools.count(1)

    def fetch(self, given: str | Mapping[str, Any]) -> Path:
        """A file with what a URL, or the `url` of a reference, names. InputNotFetched, OSError."""
        url = given if isinstance(given, str) else given.get("url")
        if not isinstance(url, str):
            raise InputNotFetched("neither a URL nor an object with one")
        if url.startswith("data:"):
            return self._write(*_data(url, self._limits.max_bytes))
        if found := _FILE.fullmatch(url):
            return self._copy(found[1], found[2], self._uploads, name=found[2])
        if found := _ARTIFACT.fullmatch(url):
            name = found[2].split("-", 2)[-1]
            return self._copy(found[1], found[2], self._artifacts, name=name)
        name = tidy(url.partition("?")[0].partition("#")[0])
        return self._made(name, lambda path: fetch(url, path, hosts=self._hosts, limits=self._limits))

    def _copy(self, of: str, stored: str, store: Uploads | Artifacts | None, *, name: str) -> Path:
        if store is None:
            raise InputNotFetched(
                "this worker has no folder in common with the web tier: give both one --shared"
            )
        # Somebody else's is as good as none.
        opened = store.open(of, stored) if store.owner(of) == self._owner else None
        if opened is None:
            raise InputNotFetched(f"there is no file {name[:160]!r} of that id, or no more")
        with opened.file:
            return self._made(name, lambda path: _pour(opened, path))

    def _write(self, name: str, data: bytes) -> Path:
        return self._made(name, lambda path: path.write_bytes(data))

    def _made(self, name: str, write: Callable[[Path], object]) -> Path:
        """A new file; nothing is left of one that could not be written."""
        self._scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._scratch / f"{self._prefix}{next(self._numbers)}-{name or 'file'}"
        try:
            write(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path


def _pour(opened: Opened, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(opened.file, file, 1 << 20)


def _data(url: str, max_bytes: int) -> tuple[str, bytes]:
    """Name and bytes of a data URL (RFC 2397)."""
    head, comma, text = url.partition(",")
    if not comma:
        raise InputNotFetched("not a data URL: it has no comma")
    if len(text) * 3 // 4 > max_bytes:
        raise InputNotFetched(f"the data URL has more than {max_bytes} bytes")
    kind, *options = head.removeprefix("data:").split(";")
    raw = unquote_to_bytes(text)
    if "base64" in options:
        try:
            raw = base64.b64decode(raw, validate=True)
        except binascii.Error as error:
            raise InputNotFetched(f"not a data URL: {error}") from None
    return f"data{suffix_of(kind)}", raw
