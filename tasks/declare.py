"""`@task`: gives a worker class its public name and its limits.  Pure data.

Nothing is registered here and nothing is imported: the decorated class carries a `TaskDeclaration`,
which `gpu_worker/load.py` finds on the worker and `catalog.py` publishes for everybody else.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

#: `owner/name`, or longer, `owner/name/upscale`: another endpoint of one app, to clients of fal's. Each part
#: has letters, digits, `.`, `_` and `-`, and begins with a letter or digit.
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
NAME = re.compile(rf"{_PART}(/{_PART}){{1,5}}", re.ASCII)
#: What URLs have behind a name.
RESERVED = frozenset({"stream", "requests", "realtime"})
DECLARATION = "__rankcast_task__"
_OPTIONAL_LIMITS = ("timeout_s", "total_timeout_s", "stall_s")

C = TypeVar("C", bound=type)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDeclaration:
    """What `@task` says of a class; times in seconds, None means no limit."""

    name: str
    world_size: int = 1
    #: How long one attempt may run, from the call of `__call__`.
    timeout_s: float | None = None
    #: How long a job may take from its submit to its end, waits and other attempts included.
    total_timeout_s: float | None = None
    #: How long a call may go on without a sign of progress: `add_streaming_result`, `should_stop` or
    #: `alive`, on any rank.
    stall_s: float | None = None
    #: How long a rank may be unheard during a call before it counts as frozen. A call into C that keeps
    #: the interpreter's lock looks the same: a task that makes longer ones needs more. A rank that is
    #: stopped by a signal is seen within seconds, whatever this says.
    silence_s: float = 15.0
    #: How long starting a group may take, `setup` included.
    setup_timeout_s: float = 600.0
    #: How long a cancelled call has to stop by itself before its group is killed.
    cancel_grace_s: float = 5.0
    #: How often an attempt that failed in user code is made again.
    retries: int = 0


def task(
    name: str,
    *,
    world_size: int = 1,
    timeout_s: float | None = None,
    total_timeout_s: float | None = None,
    stall_s: float | None = None,
    silence_s: float = 15.0,
    setup_timeout_s: float = 600.0,
    cancel_grace_s: float = 5.0,
    retries: int = 0,
) -> Callable[[C], C]:
    """Register the decorated `DistributedWorker` class under `name`, written `owner/name`, or
    `owner/name/part` for one that clients of fal's know as another endpoint of `owner/name`.

    `world_size` is the number of ranks, one GPU each. `retries` is how often a job is tried again
    after an exception or an exit in your code; a group or worker that was lost is no retry. The
    limits are in seconds, and told at the fields of TaskDeclaration.
    ValueError or TypeError, at import, for anything that could not run.
    """
    declaration = TaskDeclaration(
        name=name,
        world_size=world_size,
        timeout_s=timeout_s,
        total_timeout_s=total_timeout_s,
        stall_s=stall_s,
        silence_s=silence_s,
        setup_timeout_s=setup_timeout_s,
        cancel_grace_s=cancel_grace_s,
        retries=retries,
    )
    _check(declaration)

    def declare(cls: C) -> C:
        if not isinstance(cls, type):
            raise TypeError(f"@task({name!r}) goes on a DistributedWorker class, not on {cls!r}")
        setattr(cls, DECLARATION, declaration)
        return cls

    return declare


def declaration_of(cls: type) -> TaskDeclaration | None:
    """The declaration that stands on this very class; one it inherits does not count."""
    found = vars(cls).get(DECLARATION)
    return found if isinstance(found, TaskDeclaration) else None


def is_file(spec: str) -> bool:
    """Whether a `--tasks` value names a Python file, rather than a module."""
    return spec.endswith(".py") or os.sep in spec


def _check(declaration: TaskDeclaration) -> None:
    if not isinstance(declaration.name, str) or not NAME.fullmatch(declaration.name):
        raise ValueError(
            f"a task's name is 'owner/name' in letters, digits, '.', '_' and '-', not {declaration.name!r}"
        )
    if taken := RESERVED.intersection(declaration.name.split("/")[2:]):
        raise ValueError(f"no part of a task's name is {', '.join(taken)}: {declaration.name!r}")
    if type(declaration.world_size) is not int or declaration.world_size < 1:
        raise ValueError(f"world_size is a whole number of ranks from 1, not {declaration.world_size!r}")
    if type(declaration.retries) is not int or declaration.retries < 0:
        raise ValueError(f"retries is a whole number from 0, not {declaration.retries!r}")
    for field in (*_OPTIONAL_LIMITS, "setup_timeout_s", "cancel_grace_s", "silence_s"):
        value = getattr(declaration, field)
        if value is None and field in _OPTIONAL_LIMITS:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ValueError(f"{field} is a number of seconds above 0, not {value!r}")
