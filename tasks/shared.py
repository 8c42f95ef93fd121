"""The folder that all hosts of a deployment see: checkpoints, artifacts, and what clients upload.

<folder>/id/<random>     tells it from others of the same name on other hosts
<folder>/served          there once a web tier was started with it: what is stored here can be fetched
<folder>/checkpoints/<deployment>/…      gpu_worker/checkpoints.py
<folder>/artifacts/<deployment>/…        artifacts.py
"""

import contextlib
import os
import secrets
from pathlib import Path

from rankcast.tasks.artifacts import DirectoryArtifacts
from rankcast.tasks.disk import unfinished
from rankcast.tasks.uploads import Uploads


class SharedFolder:
    """One process' view of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._served = path / "served"

    def id(self) -> str:
        """The same for all who see this folder, and for nobody else. OSError where none can be made."""
        folder = self.path / "id"
        with contextlib.suppress(OSError), unfinished(self.path) as hidden:
            # Who comes second does not replace a folder that has something in it.
            (hidden / "id").mkdir()
            (hidden / "id" / secrets.token_hex(16)).touch()
            os.rename(hidden / "id", folder)
        return min(os.listdir(folder))

    def serve(self) -> None:
        """Tell all who see it that a web tier reads here."""
        self._served.touch()

    @property
    def is_served(self) -> bool:
        """Whether one ever did."""
        return self._served.exists()

    def checkpoints(self, deployment: str) -> Path:
        return self.path / "checkpoints" / deployment

    def artifacts(self, deployment: str) -> Path:
        """The root of its DirectoryArtifacts."""
        return self.path / "artifacts" / deployment

    @property
    def uploads_root(self) -> Path:
        return self.path / "files"

    def uploads(self) -> Uploads:
        return Uploads(self.uploads_root)

    def store(self, deployment: str) -> DirectoryArtifacts:
        return DirectoryArtifacts(self.artifacts(deployment))
