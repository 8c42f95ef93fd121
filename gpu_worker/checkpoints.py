"""Step 6. An attempt's checkpoints on disk: whole or not there, each in a place of its own.

    <shared>/checkpoints/<deployment>/<job id>/<fence>/save-<n>/<name>

Redis fences events and cannot fence a disk. So an attempt writes in its own folder alone, where what
the task writes itself lies beside `save-<n>`; nobody reads there what was not announced, and what was
is never written again. Knows neither torch nor Redis: how a value is written, and how one is
announced, is handed in.
"""

import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from rankcast.tasks.disk import NAME, NAMES, full_disk, remove, sync, sync_folders

#: What the members of a checkpoint event that are not the task's own are called.
RESERVED = frozenset({"path", "attempt"})


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
            sync_folders(folder, self._root)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if (full := full_disk(error)) is not None:
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
            sync(each)
        sync_folders(path.parent, self._root)
        return path, path

    def _drop_superseded(self) -> None:
        """Remove what is older than this attempt's newest checkpoint, other attempts' included.

        Called when the next one is begun, not when it was announced: the record may go back to the
        one before, if Redis loses its last seconds together with this rank.
        """
        if not self._announced:
            return
        *superseded, newest = self._announced
        for path in (*superseded, *self._earlier_attempts()):
            remove(path)
        self._announced = [newest]

    def _earlier_attempts(self) -> Iterator[Path]:
        for path in self._job.iterdir():
            if path.name.isdecimal() and int(path.name) < self._fence:
                yield path


def check(name: str, about: Iterable[str]) -> None:
    """ValueError for a file name, or a member of the event, that a checkpoint cannot have."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a checkpoint's name: {NAMES}")
    if taken := RESERVED.intersection(about):
        raise ValueError(f"{', '.join(sorted(taken))}: what is said about a checkpoint cannot be called so")


def is_here(root: Path, job_id: str, told: Mapping[str, Any]) -> bool:
    """Whether this host reaches the checkpoint that `job_id` announced."""
    root = root.resolve()
    path = (root / told["path"]).resolve()
    return root / job_id in path.parents and os.access(path, os.R_OK)


def _files_below(path: Path) -> Iterator[Path]:
    """`path` and, of a folder, all files and folders in it."""
    yield path
    if path.is_dir():
        yield from (each for each in path.rglob("*") if each.is_file() or each.is_dir())
