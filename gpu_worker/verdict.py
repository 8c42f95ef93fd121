"""Step 5. Which of several ranks' failures is the cause.  Pure rules.

When one rank fails, its peers fail after it: gloo tells them that a connection was closed, or they
hang until they are killed. The first failure that does not blame a peer is the cause.
"""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rankcast.gpu_worker.messages import Done, Failed, Message
from rankcast.tasks.job import JobErrorInfo


@dataclass(frozen=True, slots=True)
class Ending:
    """How a rank failed: it raised (`failed`), or its process ended.

    `exitcode` is minus the signal's number, as multiprocessing has it; None when nobody knows.
    """

    rank: int
    failed: Failed | None = None
    exitcode: int | None = None

    @property
    def is_death(self) -> bool:
        """A signal ended it."""
        return self.exitcode is not None and self.exitcode < 0


def cause(
    endings: Sequence[Ending],
    *,
    is_setup: bool = False,
    has_memory_run_out: Callable[[], bool] = lambda: False,
) -> JobErrorInfo:
    """The error to tell, of failures in the order in which they became known.

    `has_memory_run_out` is asked about a SIGKILL: whether the kernel sent one for want of memory.
    """
    first = next((e for e in endings if not (e.failed and e.failed.is_secondary)), endings[0])
    # Of ranks that all failed in the same way, none is the one to blame: name the first.
    alike = [e for e in endings if _gist(e) == _gist(first)]
    told = _told(min(alike, key=lambda e: e.rank), is_setup)
    if told.signal == "SIGKILL" and has_memory_run_out():
        return replace(
            told, kind="oom_killed", message=f"{told.message}: the kernel had no memory left for it"
        )
    return told


def may_go_on(reports: Sequence[Message | None]) -> bool:
    """Whether a group whose ranks told this can take the next call, though some of them failed.

    Yes if all of them wait for it and have entered equally many collectives: then none is still in
    one, or is owed one by a peer.
    """
    counts = {r.collectives if isinstance(r, Done | Failed) else None for r in reports}
    return len(counts) == 1 and None not in counts


def _gist(ending: Ending) -> tuple[object, ...]:
    failed = ending.failed
    return (failed.kind, failed.type, failed.message) if failed else (ending.rank,)


def _told(ending: Ending, is_setup: bool) -> JobErrorInfo:
    failed = ending.failed
    if failed is not None:
        return JobErrorInfo(
            kind="setup_failed" if is_setup else failed.kind,
            message=failed.message,
            rank=ending.rank,
            type=failed.type,
            traceback=failed.traceback,
            exitcode=failed.exitcode,
        )
    if ending.exitcode is not None and ending.exitcode >= 0:
        return JobErrorInfo(
            kind="setup_failed" if is_setup else "exited",
            message=f"rank {ending.rank} ended its process with exit code {ending.exitcode}",
            rank=ending.rank,
            exitcode=ending.exitcode,
        )
    name = _signal_name(ending.exitcode)
    return JobErrorInfo(
        kind="group_lost",
        message=f"rank {ending.rank} was ended by {name or 'the loss of its forkserver'}",
        rank=ending.rank,
        signal=name,
    )


def _signal_name(exitcode: int | None) -> str | None:
    if exitcode is None:
        return None
    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"
