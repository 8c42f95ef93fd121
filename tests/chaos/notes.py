"""What a fixture task writes down itself: one line a thing it did, in a file of its process.

Each line is one write(2), so a SIGKILL takes none that was written. The checker holds event logs and
transcripts against these lines; nothing here knows Rankcast.
"""

import hashlib
import json
import os
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

#: In the environment of workers: the folder of these files, and that of the files which hold probes
#: where they are.
FOLDER, HOLDS = "CHAOS_NOTES", "CHAOS_HOLDS"


class Note(NamedTuple):
    """`call` is one call of one task on all ranks, drawn anew each time; `n` numbers what it told."""

    #: setup, called, resumed, phase, telling, told, returned or raised.
    what: str
    task: str
    rank: int
    pid: int
    job: str = ""
    attempt: int = 0
    call: str = ""
    n: int = 0
    #: Of `phase`: which; of `raised`: the exception's type.
    detail: str = ""
    #: CLOCK_MONOTONIC when it was written, which all processes of a machine share.
    at_ns: int = 0


def write(note: Note) -> None:
    """Add a line to this process' file."""
    line = json.dumps(note._replace(at_ns=time.monotonic_ns()))
    os.write(_file(os.getpid()), line.encode() + b"\n")


def is_held(name: str) -> bool:
    """Whether the driver wants whoever asks to stay where it is."""
    return Path(os.environ[HOLDS], name).exists()


class Notebook:
    """All that was written so far; `read` again for what came since."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        #: By job; those of no job under "".
        self.of: dict[str, list[Note]] = {}

    def read(self) -> "Notebook":
        """Take in every whole line of every process, each process' lines in order."""
        for path in sorted(self._folder.glob("*.jsonl")):
            start = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(start)
                whole, _, _ = file.read().rpartition(b"\n")
            for line in whole.splitlines():
                note = Note(*json.loads(line))
                self.of.setdefault(note.job, []).append(note)
            self._read[path] = start + len(whole) + bool(whole)
        return self

    def find(self, job: str, what: str, detail: str = "") -> list[Note]:
        """What ranks wrote of a job so far."""
        found = self.read().of.get(job, [])
        return [note for note in found if note.what == what and note.detail == detail]


def result(job: str, call: str, n: int) -> dict[str, Any]:
    """The n-th thing that a call tells; anybody can tell whether it arrived unchanged."""
    digest = hashlib.sha256(f"{job} {call} {n}".encode()).hexdigest()
    return {"job": job, "call": call, "n": n, "pad": digest * (1 + n % 4)}


@cache
def _file(pid: int) -> int:
    # By pid: a fork must not write into the file of its parent.
    return os.open(Path(os.environ[FOLDER], f"{pid}.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
