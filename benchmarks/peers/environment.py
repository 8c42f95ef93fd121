"""Where fal's own package is: in an environment of its own, which `make test` and `make bench` make.

It asks for older releases of what our tools are locked to. torch, with all it needs, is ours there too.
"""

import os
from pathlib import Path

from benchmarks.measure import NotInstalled

PEER_PYTHON = "RANKCAST_BENCH_PEER_PYTHON"
PEER_VENV = Path(__file__).parents[2] / ".venv-fal"


def fal_python() -> str:
    """The interpreter that has fal: the one named, or the environment's. NotInstalled if there is none."""
    if named := os.environ.get(PEER_PYTHON):
        return named
    if not (PEER_VENV / ".ready").exists():
        raise NotInstalled(f"no {PEER_VENV.name}, which has fal's own package: make test installs it")
    return str(PEER_VENV / "bin" / "python")
