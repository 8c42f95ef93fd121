"""What a rehearsal gives a test: what the task told, printed, saved and returned."""

import json
import shutil
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rankcast.client import Event
from rankcast.errors import JobFailed
from rankcast.gpu_worker.messages import Call
from rankcast.gpu_worker.rehearsal import Told
from rankcast.tasks.event import CHECKPOINT, RESULT, EventId
from rankcast.tasks.job import JobErrorInfo
from rankcast.tasks.settings import host_name
from rankcast.transport import LogLine


class Folder:
    """A temporary folder, which goes when nobody holds this any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="rankcast-"))
        self.artifacts = self.path / "artifacts"
        self.scratch = self.path / "scratch"
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One run of a task that came to a good end.

    `state` is "succeeded", or "cancelled" where `cancel_after` was reached; such a run has no output.
    `output` and all data are what a client would see: as JSON has them, images and tensors encoded.
    `events` has what the task streamed and its checkpoints, `results` the data of the former.
    `checkpoints` are paths, oldest first; as in a job, only the last two are still there, and only
    as long as this object is. `logs` are the lines that were printed.
    """

    state: str
    output: Any
    events: Sequence[Event]
    logs: Sequence[LogLine]
    checkpoints: Sequence[Path]
    _folder: Folder = field(repr=False)

    @property
    def results(self) -> list[Any]:
        return _results(self.events)

    def artifact(self, reference: Mapping[str, Any]) -> Path:
        """The file that a reference in the output or in an event stands for; it goes with this object.
        ValueError for what is no such reference, such as a value that is in its event as a data URL."""
        url = str(reference.get("url"))
        if not url.startswith("/jobs/"):
            raise ValueError(f"{url[:40]!r} is not stored beside the log")
        job_id, _, name = url.split("/")[-3:]
        return self._folder.artifacts / job_id / name


class RunFailed(JobFailed):
    """Raised as JobFailed is for a real job; `error` says why. `events`, `results` and `logs` are what
    came before."""

    def __init__(
        self, job_id: str, error: Mapping[str, Any], events: Sequence[Event], logs: Sequence[LogLine]
    ) -> None:
        super().__init__(job_id, error)
        self.events = tuple(events)
        self.logs = tuple(logs)

    @property
    def results(self) -> list[Any]:
        return _results(self.events)


class Ear:
    """Hears one run."""

    def __init__(self, call: Call) -> None:
        self.events: list[Event] = []
        self.logs: list[LogLine] = []
        self._call = call
        self._host = host_name()

    def told(self, told: Told) -> None:
        for number, kind, data in told.events:
            if kind in (RESULT, CHECKPOINT):
                self.events.append(Event(str(EventId(self._call.fence, number)), kind, json.loads(data)))

    def line(self, rank: int, stream: str, text: str) -> None:
        self.logs.append(LogLine(rank, self._host, stream, text, round(time.time() * 1000)))

    def ran(self, output: bytes | None, folder: Folder) -> Ran:
        """How it ended; without an output it was cancelled."""
        announced = [event.data["path"] for event in self.events if event.kind == CHECKPOINT]
        return Ran(
            state="cancelled" if output is None else "succeeded",
            output=None if output is None else json.loads(output),
            events=tuple(self.events),
            logs=tuple(self.logs),
            checkpoints=tuple(folder.path.resolve() / path for path in announced),
            _folder=folder,
        )

    def failed(self, error: JobErrorInfo) -> RunFailed:
        return RunFailed(self._call.job_id, error.as_dict(), self.events, self.logs)


def _results(events: Sequence[Event]) -> list[Any]:
    return [event.data for event in events if event.is_result]
