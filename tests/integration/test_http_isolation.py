"""The web tier runs where neither torch nor anybody's tasks are."""

import os
import subprocess
import sys
from pathlib import Path

import redis as redis_py
from jobs import SUCCESS, running
from web_tier import Watch, web_tier

from rankcast.tasks.catalog import TaskInfo
from rankcast.tasks.store import JobStore

BLOCKER = """
import sys
# The face of the package brings this one along: the base class that users' code derives from.
FACE = ("rankcast.gpu_worker", "rankcast.gpu_worker.distributed_worker")
class Blocker:
    def find_spec(self, name, path=None, target=None):
        is_running = name.startswith("rankcast.gpu_worker") and name not in FACE
        if is_running or name.partition(".")[0] in ("torch", "numpy", "PIL"):
            raise ImportError(f"{name} is not for the web tier")
sys.meta_path.insert(0, Blocker())
"""


def test_the_web_tier_needs_neither_torch_nor_the_tasks(
    valkey_url: str, redis: redis_py.Redis, task: TaskInfo, store: JobStore, tmp_path: Path
) -> None:
    """On a host without GPUs, in an empty folder: it sees Redis and nothing else."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(BLOCKER)
    (tmp_path / "empty").mkdir()
    path = {"PYTHONPATH": str(tmp_path / "path")}
    blocked = subprocess.run(
        [sys.executable, "-c", "import torch"], env={**os.environ, **path}, capture_output=True, text=True
    )
    assert "not for the web tier" in blocked.stderr
    with web_tier(valkey_url, cwd=tmp_path / "empty", **path) as web:
        watch = Watch(web.url, "/stream", post={"prompt": "x"})
        claim = running(store, watch.headers["X-Rankcast-Job-Id"])
        store.finish(claim, SUCCESS, 1)
        assert watch.to_end()[-1].json == {"done": True}
    assert list((tmp_path / "empty").iterdir()) == []
