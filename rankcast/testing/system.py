"""A whole system for a test: Redis, web tier and worker, started and ended as `rankcast up` does it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rankcast.cli.children import Child
from rankcast.cli.deployment import ChildEnded, Deployment, Plan
from rankcast.cli.options import WEB_MODULES, WORKER_MODULES, need_extra
from rankcast.cli.processes import WebOptions, WorkerOptions, resolve_tasks
from rankcast.cli.web import listen
from rankcast.client import Client
from rankcast.errors import RankcastError

#: A test that is over does not wait for jobs that it left behind.
DRAIN_S = 0.5


class SystemEnded(RankcastError):
    """Raised when a part of a system does not start, or has ended by itself; it has the last lines."""


class System:
    """What a test has of a system that runs; made by `system`. `redis_url` is for `Steps.delay`, in
    RANKCAST_REDIS_URL, and for looking into Redis."""

    def __init__(self, deployment: Deployment, client: Client, redis_url: str, lines: list[str]) -> None:
        self.url = deployment.url
        self.redis_url = redis_url
        self.client = client
        self._deployment = deployment
        self._lines = lines

    def log(self) -> str:
        """What web tier and worker wrote so far. SystemEnded if one of them has ended."""
        try:
            while self._deployment.look(timeout_s=0):
                pass
        except ChildEnded as error:
            raise _told(error) from None
        return "\n".join(self._lines)


@contextmanager
def system(
    *tasks: str | Path, slots: int = 1, gpus: str | None = "none", env: Mapping[str, str] | None = None
) -> Iterator[System]:
    """Redis, web tier and a worker with these task files or modules, on free ports, until the block ends.

    Real processes, as `rankcast up` starts them, with nothing kept on disk. `slots` is how many jobs
    run at a time; on the CPU, unless `gpus` says which to use (None: all that are visible). The
    parts see this process' environment without its RANKCAST_ variables, and `env`.

    From the main thread. ValueError for a task file that is not there; SystemEnded when a part does
    not start, with its last lines.
    """
    folder = os.getcwd()
    specs = tuple(resolve_tasks(str(task), folder) for task in tasks)
    if not specs:
        raise ValueError("name the file of at least one task")
    need_extra("server", *WEB_MODULES, *WORKER_MODULES)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RANKCAST_")}
    plan = Plan(
        sock=listen("127.0.0.1", 0),
        worker=WorkerOptions(tasks=specs, slots=slots, gpus=gpus),
        web=WebOptions(),
        redis_url=None,
        data=None,
    )
    lines: list[str] = []

    def keep(child: Child, line: str) -> None:
        lines.append(f"{child.name} | {line}")

    told = {**inherited, "RANKCAST_DRAIN_TIMEOUT_S": str(DRAIN_S), **(env or {})}
    deployment = Deployment(plan, env=told, tell=keep)
    try:
        with deployment.running(), Client(deployment.url) as client:
            assert deployment.redis_url is not None
            yield System(deployment, client, deployment.redis_url, lines)
    except ChildEnded as error:
        raise _told(error) from None


def _told(error: ChildEnded) -> SystemEnded:
    tail = "\n".join(f"  {line}" for line in error.ended.child.tail)
    return SystemEnded(f"{error}; its last lines:\n{tail}")
