"""Files that are whole or not there, and the folders of jobs that are forgotten.

What several processes, or several hosts, read and write in one folder: nobody locks, nobody sees half a
file, and what was left half by a kill is hidden.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

#: What a file may be called: no folder, nothing hidden, nothing to quote.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
NAMES = "letters, digits, '.', '_' and '-', at most 128, the first a letter or a digit"
#: What the system says of a disk, a quota or a file size that has come to its limit.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: How long a job's folder stays for which there is no record.
GRACE_S = 3600.0

#: As tasks/job.py makes them.
JOB_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


def full_disk(error: BaseException | None) -> OSError | None:
    """What the system said, if that is what an error came of: libraries raise another one over it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


def refuse_unwritable(folder: Path) -> None:
    """ValueError, in one line, unless files can be written in `folder`; makes it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"--shared {folder}: {error.strerror}") from error


@contextlib.contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """A hidden folder in `folder`, both made here, to be filled and moved from; what is left in it goes."""
    hidden = folder / f".{secrets.token_hex(8)}"
    hidden.mkdir(parents=True)
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folders(folder: Path, root: Path) -> None:
    """Sync the names on the way from `root` to what was written in `folder`."""
    for each in (folder, *folder.parents):
        sync(each)
        if each == root:
            return


def remove(path: Path) -> None:
    """As far as it goes: another worker may be at it, and what stays is found again later."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


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
            if JOB_ID.fullmatch(entry.name)
            and entry.is_dir(follow_symlinks=False)
            and entry.stat(follow_symlinks=False).st_mtime < now_s() - GRACE_S
        ]
    forgotten = sorted(set(old) - kept(old)) if old else []
    for job_id in forgotten:
        remove(root / job_id)
    return forgotten
