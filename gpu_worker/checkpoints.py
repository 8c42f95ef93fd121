"""Step 6. An attempt's checkpoints on disk: whole or not there, each in a place of its own.

    <shared>/checkpoints/<deployment>/<job id>/<fence>/save-<n>/<name>

Redis fences events and cannot fence a disk. So an attempt writes in its own folder alone, where what
the task writes itself lies beside `save-<n>`; nobody reads there what was not announced, and what was
is never written again. Knows neither torch nor Redis: how a value is written, and how one is
announced, is handed in.
"""

import contextlib
import errno
import itertools
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

#: What a checkpoint's file may be called: no folder, nothing hidden, nothing to quote.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
#: What the members of a checkpoint event that are not the task's own are called.
RESERVED = frozenset({"path", "attempt"})
#: What the system says of a disk, a quota or a file size that has come to its limit.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: How long a job's folder stays for which there is no record.
GRACE_S = 3600.0

_JOB_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


class AttemptFolder:
    """The folder of one attempt. `save` from any thread, on rank 0; the rest on every rank.

    `dump(value, file)` writes what is neither bytes nor a path. `announce(path, about)`, the path as it
    stands below `root`, returns once the log has it, and raises if it never will.
    """

    def __init__(
        self,
        root: Path,
        job_id: str,
        fence: int,
        *,
        dump: Callable[[Any, BinaryIO], object],
        announce: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        self._root = root.resolve()
        self._job = self._root / job_id
        self._path = self._job / str(fence)
        self._fence = fence
        self._dump = dump
        self._announce = announce
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        #: Files and folders that were announced, oldest first, as far as they are there.
        self._announced: list[Path] = []

    def made(self) -> Path:
        """The folder, which is there now."""
        self._path.mkdir(parents=True, exist_ok=True)
        return self._path

    def save(self, value: Any, name: str, about: Mapping[str, Any]) -> Path:
        """Write `value`, or sync what the path `value` names, and announce it with `about`.

        ValueError for a path that cannot be meant; OSError when the disk does not take it: then
        nothing of it is left.
        """
        with self._lock:
            self._drop_superseded()
            path, kept = self._accept(value) if isinstance(value, Path) else self._write(value, name)
            self._announce(path.relative_to(self._root).as_posix(), about)
            self._announced.append(kept)
            return path

    def _write(self, value: Any, name: str) -> tuple[Path, Path]:
        """Write a file in a folder of its own; both."""
        folder = self.made() / f"save-{next(self._numbers)}"
        folder.mkdir()
        path, unfinished = folder / name, folder / f".{name}"
        try:
            with unfinished.open("wb") as file:
                if isinstance(value, bytes):
                    file.write(value)
                else:
                    self._dump(value, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
            self._sync_folders(folder)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if (full := _full_disk(error)) is not None:
                raise OSError(full.errno, full.strerror, str(path)) from error
            raise
        return path, folder

    def _accept(self, given: Path) -> tuple[Path, Path]:
        """Sync what the task has written itself; where it lies, twice."""
        path = given.resolve(strict=True)
        if self._path not in path.parents:
            raise ValueError(f"{given} is not in this attempt's checkpoint_dir, {self._path}")
        if any(path == old or path in old.parents or old in path.parents for old in self._announced):
            raise ValueError(f"{given} was announced before: give every checkpoint a name of its own")
        for each in _files_below(path):
            _sync(each)
        self._sync_folders(path.parent)
        return path, path

    def _sync_folders(self, folder: Path) -> None:
        """The names on the way to what was written."""
        for each in (folder, *folder.parents):
            _sync(each)
            if each == self._root:
                return

    def _drop_superseded(self) -> None:
        """Remove what is older than this attempt's newest checkpoint, other attempts' included.

        Called when the next one is begun, not when it was announced: the record may go back to the
        one before, if Redis loses its last seconds together with this rank.
        """
        if not self._announced:
            return
        *superseded, newest = self._announced
        for path in (*superseded, *self._earlier_attempts()):
            _remove(path)
        self._announced = [newest]

    def _earlier_attempts(self) -> Iterator[Path]:
        for path in self._job.iterdir():
            if path.name.isdecimal() and int(path.name) < self._fence:
                yield path


def check(name: str, about: Iterable[str]) -> None:
    """ValueError for a file name, or a member of the event, that a checkpoint cannot have."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be a checkpoint's name: letters, digits, '.', '_' and '-', at most 128, "
            "the first a letter or a digit"
        )
    if taken := RESERVED.intersection(about):
        raise ValueError(f"{', '.join(sorted(taken))}: what is said about a checkpoint cannot be called so")


def is_here(root: Path, job_id: str, told: Mapping[str, Any]) -> bool:
    """Whether this host reaches the checkpoint that `job_id` announced."""
    root = root.resolve()
    path = (root / told["path"]).resolve()
    return root / job_id in path.parents and os.access(path, os.R_OK)


def refuse_unwritable(folder: Path) -> None:
    """ValueError, in one line, unless files can be written in `folder`; makes it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"--shared {folder}: {error.strerror}") from error


def remove_forgotten(
    root: Path, kept: Callable[[Sequence[str]], set[str]], *, now_s: Callable[[], float] = time.time
) -> list[str]:
    """Remove the folders of jobs that have no record any more, an hour after they were last touched.

    `kept(job_ids)` says which have one. Nothing else in `root` is looked at. The ids removed.
    """
    if not root.is_dir():
        return []
    with os.scandir(root) as entries:
        old = [
            entry.name
            for entry in entries
            if _JOB_ID.fullmatch(entry.name)
            and entry.is_dir(follow_symlinks=False)
            and entry.stat(follow_symlinks=False).st_mtime < now_s() - GRACE_S
        ]
    forgotten = sorted(set(old) - kept(old)) if old else []
    for job_id in forgotten:
        _remove(root / job_id)
    return forgotten


def _files_below(path: Path) -> Iterator[Path]:
    """`path` and, of a folder, all files and folders in it."""
    yield path
    if path.is_dir():
        yield from (each for each in path.rglob("*") if each.is_file() or each.is_dir())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """As far as it goes: another worker may be at it, and what stays is found again later."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _full_disk(error: BaseException | None) -> OSError | None:
    """What the system said, if that is what an error came of: torch raises another one over it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error
        error = error.__cause__ or error.__context__
    return None
