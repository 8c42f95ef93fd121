"""Rank groups on a real GPU. This process never touches CUDA itself: it asks nvidia-smi."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ranks import Held

from rankcast.gpu_worker.forkserver import ForkServer
from rankcast.gpu_worker.group import RankGroup
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore

HERE = Path(__file__).parent


def _smi(query: str) -> list[int]:
    """One number a GPU."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return [int(line) for line in done.stdout.split()] if done.returncode == 0 else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and skip them where there is no GPU."""
    here = [item for item in items if HERE in item.path.parents]
    reason = None if not here or _smi("index") else "needs a GPU; nvidia-smi finds none"
    for item in here:
        item.add_marker(pytest.mark.gpu)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def memory_used_mib() -> Callable[[], int]:
    """MiB in use on the first GPU, by anybody."""
    return lambda: _smi("memory.used")[0]


@pytest.fixture(scope="module")
def forkserver(request: pytest.FixtureRequest) -> Iterator[ForkServer]:
    """Started for the file that the test module names in `TASKS`."""
    server = ForkServer.start([str(HERE / request.module.TASKS)])
    yield server
    server.stop()


@pytest.fixture
def hold(
    forkserver: ForkServer, store: JobStore, event_log: EventLog, settings: Settings, tmp_path: Path
) -> Iterator[Callable[..., Held]]:
    """`hold("gpu/two", 0, 0)` starts a group of that task on these devices, one a rank."""
    with contextlib.ExitStack() as groups:

        def hold(name: str, *devices: int) -> Held:
            task = next(task for task in forkserver.tasks if task.name == name)
            lines: list[tuple[int, str, str]] = []
            group = RankGroup.start(
                task,
                forkserver=forkserver,
                settings=settings,
                on_log=lambda *line: lines.append(line),
                devices=devices,
            )
            groups.callback(group.kill)
            return Held(group, store, event_log, lines, tmp_path)

        yield hold
