"""Results too large for an event: files of a job, each written once and named by a URL.

    <shared>/artifacts/<deployment>/<job id>/<fence>-<n>-<name>

The name carries the fence of the attempt that wrote it, and a number of that attempt: a stale attempt
cannot replace what a newer one wrote, and nothing that was referred to is ever written again. Workers
write through one `Artifacts`, the web tier reads through another; how they keep files is behind it.
"""

import os
import re
import stat
from collections.abc import Callable, Sequence
from mimetypes import MimeTypes
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from rankcast.tasks.disk import (
    JOB_ID,
    NAME,
    NAMES,
    full_disk,
    remove,
    remove_forgotten,
    sync,
    sync_folders,
    unfinished,
)

#: What an artifact is stored as.
STORED_NAME = re.compile(rf"[0-9]{{1,19}}-[0-9]{{1,9}}-({NAME.pattern})", re.ASCII)
#: Beside the artifacts of a job: whose it is. No artifact can be called so.
OWNER = ".owner"

TENSORS, ARRAY, BYTES = "application/safetensors", "application/ndarray", "application/octet-stream"
#: By the end of a name, the same on every host: what the system says of types differs.
_TYPES = MimeTypes()
for _type, _suffix in (
    (TENSORS, ".safetensors"),
    (ARRAY, ".npy"),
    (BYTES, ".bin"),
    ("image/webp", ".webp"),
    ("image/avif", ".avif"),
    ("audio/flac", ".flac"),
    ("audio/ogg", ".ogg"),
    ("video/x-matroska", ".mkv"),
    ("text/markdown", ".md"),
    ("application/jsonl", ".jsonl"),
):
    _TYPES.add_type(_type, _suffix)

#: Makes the file at the path that it is given.
Write = Callable[[Path], object]


class Opened(NamedTuple):
    """A file that can be read, and its size in bytes. Whoever opened it closes it."""

    file: BinaryIO
    size: int


class Artifacts(Protocol):
    """The artifacts of one deployment's jobs. Safe to use from any thread and any host."""

    def put(self, job_id: str, name: str, write: Write, *, owner: str = "") -> int:
        """Keep what `write` makes as `name`, whole; its size. `owner` is the job's.

        ValueError for a name or an id that cannot be one, FileExistsError for a name that was written
        before, OSError when the store does not take it: then nothing of it is left.
        """

    def open(self, job_id: str, name: str) -> Opened | None:
        """An artifact, to be read; None if there is none of that name."""

    def remove(self, job_id: str, name: str) -> None:
        """Remove an artifact that nothing refers to. Does no harm twice."""

    def owner(self, job_id: str) -> str | None:
        """Whose job it is; None of one that has no artifacts."""

    def names(self, job_id: str) -> list[str]:
        """Those of a job, in the order in which they were written, as far as their names tell."""

    def remove_forgotten(self, kept: Callable[[Sequence[str]], set[str]]) -> list[str]:
        """Remove what belongs to jobs without a record; the ids. `kept(job_ids)` says which have one."""


class DirectoryArtifacts:
    """Artifacts in a folder, which all hosts of a deployment see."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, job_id: str, name: str, write: Write, *, owner: str = "") -> int:
        if not (JOB_ID.fullmatch(job_id) and STORED_NAME.fullmatch(name)):
            raise ValueError(f"{name!r} of job {job_id!r} cannot be an artifact's name")
        folder = self._root / job_id
        path = folder / name
        if path.exists():
            raise FileExistsError(f"{path} was written before")
        with unfinished(folder) as hidden:
            try:
                size = _move(hidden, name, write, folder)
                if not (folder / OWNER).exists():
                    _move(hidden, OWNER, lambda file: file.write_text(owner), folder)
                sync_folders(folder, self._root)
            except BaseException as error:
                if (full := full_disk(error)) is not None:
                    raise OSError(full.errno, full.strerror, str(path)) from error
                raise
        return size

    def open(self, job_id: str, name: str) -> Opened | None:
        if not (JOB_ID.fullmatch(job_id) and STORED_NAME.fullmatch(name)):
            return None
        return open_file(self._root / job_id / name)

    def remove(self, job_id: str, name: str) -> None:
        if JOB_ID.fullmatch(job_id) and STORED_NAME.fullmatch(name):
            remove(self._root / job_id / name)

    def owner(self, job_id: str) -> str | None:
        path = self._root / job_id / OWNER
        return path.read_text() if JOB_ID.fullmatch(job_id) and path.is_file() else None

    def names(self, job_id: str) -> list[str]:
        folder = self._root / job_id
        if not (JOB_ID.fullmatch(job_id) and folder.is_dir()):
            return []
        return sorted(filter(STORED_NAME.fullmatch, os.listdir(folder)), key=_place)

    def remove_forgotten(self, kept: Callable[[Sequence[str]], set[str]]) -> list[str]:
        return remove_forgotten(self._root, kept)


def stored_name(fence: int, number: int, name: str) -> str:
    """What the `number`th artifact of an attempt is stored as. ValueError as for `check_name`."""
    check_name(name)
    return f"{fence}-{number}-{name}"


def check_name(name: str) -> None:
    """ValueError for what no file may be called."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be an artifact's name: {NAMES}")


def file_name_of(stored: str) -> str:
    """The name that it was given."""
    return stored.split("-", 2)[2]


def url_of(job_id: str, stored: str) -> str:
    """Where the web tier has it: a path, which stays right behind any proxy."""
    return f"/jobs/{job_id}/artifacts/{stored}"


def content_type_of(name: str) -> str:
    """By the end of the name; it is the only thing that is kept of a file's type."""
    kind, encoding = _TYPES.guess_type(name)
    return kind if kind is not None and encoding is None else BYTES


def suffix_of(content_type: str) -> str:
    """An end for the name of such a file, `.bin` where none is known."""
    return _TYPES.guess_extension(content_type) or ".bin"


def reference(url: str, name: str, size: int, **more: Any) -> dict[str, Any]:
    """What stands for a file in an event, an output or an input."""
    return {
        "url": url,
        "content_type": content_type_of(name),
        "file_name": name,
        "file_size": size,
        **more,
    }


def open_file(path: Path) -> Opened | None:
    """A plain file, to be read; None if there is none, or something else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        return None
    return Opened(os.fdopen(descriptor, "rb"), found.st_size)


def _move(hidden: Path, name: str, write: Write, folder: Path) -> int:
    """Write a file where nobody sees it, and let it appear in one step; its size."""
    path = hidden / name
    write(path)
    # Some libraries make files that nobody else may read, and the web tier may be another user.
    path.chmod(hidden.stat().st_mode & 0o666)
    sync(path)
    size = path.stat().st_size
    os.rename(path, folder / name)
    return size


def _place(stored: str) -> tuple[int, int]:
    fence, number, _ = stored.split("-", 2)
    return int(fence), int(number)
