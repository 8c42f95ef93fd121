"""For users' own tests: run a task without a server, or start a whole system.

    from rankcast.testing import run, system

    ran = run(Steps, prompt="A sunset", steps=3)             # in this process
    assert ran.results[0]["step"] == 1

    ran = run(Steps, prompt="A sunset", ranks=2)             # on two real ranks

    with system("steps.py") as it:                           # Redis, web tier and worker
        job = it.client.submit("acme/steps", prompt="A sunset")

Needs `rankcast[server]`, as a worker does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    from rankcast.testing.here import Here
    from rankcast.testing.ran import Ran, RunFailed
    from rankcast.testing.ranks import Ranks
    from rankcast.testing.rehearsal import Rehearsal
    from rankcast.testing.system import System, SystemEnded, system
except ModuleNotFoundError as missing:
    raise ImportError(
        f"rankcast.testing needs rankcast[server] (missing: {missing.name}): pip install 'rankcast[server]'"
    ) from missing

__all__ = ["Ran", "Rehearsal", "RunFailed", "System", "SystemEnded", "run", "system", "warm"]


def run(
    task: type,
    input: Mapping[str, Any] | None = None,
    /,
    *,
    ranks: int | None = None,
    last_checkpoint: Path | str | None = None,
    cancel_after: int | None = None,
    **fields: Any,
) -> Ran:
    """Run a task once, its `setup` and `teardown` included; what it told and returned.

    `task` is a class with `@task`. Its input is one mapping or keywords, and is checked against its
    schema first. Without `ranks` it runs in this process, as rank 0 of 1 on the CPU, whatever world
    size it declares; with `ranks=2` on so many real processes, joined over gloo, with the limits
    that `@task` sets. No Redis is needed. One attempt is made, whatever `retries` says.

    `cancel_after` cancels the run once rank 0 has streamed so many events (0: before it begins); the
    task has to return by itself then. `last_checkpoint` is what the task is to go on from.

    InvalidInput; RunFailed, a JobFailed with the error object that a job would have, when the task
    raises or streams what cannot be encoded; NotATask for a class without `@task`. ValueError for a
    class inside a function that is to run with `ranks`: other processes could not import it.
    """
    with warm(task, ranks=ranks) as rehearsal:
        return rehearsal.run(input, last_checkpoint=last_checkpoint, cancel_after=cancel_after, **fields)


def warm(task: type, *, ranks: int | None = None) -> Rehearsal:
    """A task to be run several times after one `setup`: `with warm(Steps) as steps: steps.run(…)`.

    It is loaded by its first run, and again after one that broke its group. In one process only one
    can be warm at a time. `ranks` is as for `run`.
    """
    if ranks is None:
        return Here(task)
    if ranks < 1:
        raise ValueError(f"ranks is a number from 1, not {ranks}")
    return Ranks(task, ranks)
