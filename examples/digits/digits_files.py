"""Where checkpoints lie on a worker's host.

A job names a checkpoint, never a path: who may submit jobs may not choose what a worker reads or
writes. The folder is the worker's own choice, made by whoever starts it.
"""

import os
import tempfile
from pathlib import Path

FOLDER = Path(os.environ.get("DIGITS_DIR") or Path(tempfile.gettempdir()) / f"rankcast-digits-{os.getuid()}")
#: What a checkpoint may be called; JSON Schema searches, hence the anchors.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


def checkpoint_path(name: str) -> Path:
    return FOLDER / f"{name}.pt"
