"""A forkserver, and groups whose calls are jobs in a real store."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ranks import FORKABLE, Held, specs_of

from rankcast.gpu_worker.forkserver import ForkServer, TaskDescription
from rankcast.gpu_worker.group import RankGroup
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore

Hold = Callable[..., Held]


@pytest.fixture(scope="module")
def forkserver() -> Iterator[ForkServer]:
    server = ForkServer.start(specs_of(*FORKABLE), counts_devices=False)
    yield server
    server.stop()


@pytest.fixture
def described(forkserver: ForkServer) -> Callable[[str], TaskDescription]:
    return lambda name: next(task for task in forkserver.tasks if task.name == name)


@pytest.fixture
def hold(
    request: pytest.FixtureRequest, store: JobStore, event_log: EventLog, settings: Settings, tmp_path: Path
) -> Iterator[Hold]:
    """`hold("t/echo")` starts a group of that task, of the module's forkserver unless told otherwise;
    it is killed at the end of the test."""
    with contextlib.ExitStack() as groups:

        def hold(name: str, server: ForkServer | None = None, **options: Any) -> Held:
            server = server or request.getfixturevalue("forkserver")
            lines: list[tuple[int, str, str]] = []
            group = RankGroup.start(
                next(task for task in server.tasks if task.name == name),
                forkserver=server,
                settings=settings,
                on_log=lambda *line: lines.append(line),
                threads=1,
                **options,
            )
            groups.callback(group.kill)
            return Held(group, store, event_log, lines, tmp_path)

        yield hold
