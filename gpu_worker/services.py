"""Step 6. What a worker asks of the rank that it lives in, and what it gets where it lives in none."""

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rankcast.gpu_worker.fetch import Limits
from rankcast.gpu_worker.files import FETCH_TIMEOUT_S, MAX_FETCH_BYTES
from rankcast.gpu_worker.inputs import InputFiles
from rankcast.tasks.artifacts import reference


class Services(Protocol):
    """What a rank does for its worker."""

    def cast(self, result: Any, image_format: str) -> None:
        """Send an event of the running job."""

    def vote(self, flag: bool) -> bool:
        """Whether any rank says True; every rank must ask."""

    def checkpoint_dir(self) -> Path:
        """The folder of the running attempt; it is there."""

    def save_checkpoint(self, value: Any, name: str, about: dict[str, Any]) -> Path:
        """Write and announce."""

    def save_artifact(self, name: str, value: Any) -> dict[str, Any]:
        """Store, and return the reference."""

    def fetch_input(self, given: str | Mapping[str, Any]) -> Path:
        """Have a file of it in a folder that goes with the attempt."""

    def use_device(self) -> None:
        """Make the rank's device that of the calling thread."""


class Alone:
    """The Services of a worker that no rank holds, as in a test: what it streams or saves goes nowhere,
    votes are one's own."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._inputs: InputFiles | None = None

    def cast(self, result: Any, image_format: str) -> None:
        pass

    def vote(self, flag: bool) -> bool:
        return flag

    def checkpoint_dir(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="rankcast-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    def save_checkpoint(self, value: Any, name: str, about: dict[str, Any]) -> Path:
        return value if isinstance(value, Path) else self.checkpoint_dir() / name

    def save_artifact(self, name: str, value: Any) -> dict[str, Any]:
        path = self.checkpoint_dir() / name
        if isinstance(value, Path):
            shutil.copyfile(value, path)
        else:
            # What it would take a library to write stays empty.
            path.write_bytes(value.encode() if isinstance(value, str) else _bytes_of(value))
        return reference(path.as_uri(), name, path.stat().st_size)

    def fetch_input(self, given: str | Mapping[str, Any]) -> Path:
        """Data URLs alone: there is no deployment here that could have files."""
        if self._inputs is None:
            limits = Limits(MAX_FETCH_BYTES, FETCH_TIMEOUT_S)
            self._inputs = InputFiles(self.checkpoint_dir(), prefix="", limits=limits)
        return self._inputs.fetch(given)

    def use_device(self) -> None:
        pass


def _bytes_of(value: Any) -> bytes:
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""
