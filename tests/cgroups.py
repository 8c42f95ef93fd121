"""Control groups of a test's own (version 1); `from cgroups import ...`. Skips where it may make none."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import wait_until

from rankcast.gpu_worker.oom import CGROUPS


@contextlib.contextmanager
def control_group(controller: str) -> Iterator[Path]:
    """The folder of a new group below this process' own. Must be empty again at the end."""
    folder = CGROUPS / controller / _own_path(controller).lstrip("/") / f"rankcast-test-{uuid.uuid4().hex}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"needs a {controller} control group (version 1) of its own: {error}")
    try:
        yield folder
    finally:
        wait_until(lambda: not (folder / "cgroup.procs").read_text(), f"no process in {folder}")
        folder.rmdir()


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process cannot even die: SIGKILL waits until it thaws, as for one that hangs in a driver."""
    with control_group("freezer") as folder:
        state = folder / "freezer.state"
        (folder / "cgroup.procs").write_text(str(pid))
        state.write_text("FROZEN")
        wait_until(lambda: state.read_text().strip() == "FROZEN", f"{pid} is frozen")
        try:
            yield
        finally:
            state.write_text("THAWED")
            with contextlib.suppress(OSError):
                (folder.parent / "cgroup.procs").write_text(str(pid))


def _own_path(controller: str) -> str:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    pytest.skip(f"needs the {controller} controller of control groups, version 1")
