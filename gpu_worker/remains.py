"""Step 5. What a group leaves behind on its slot: processes that do not die, memory that is not back.

SIGKILL ends a process at once, as a rule. One that hangs in a driver, or on a file server that went
away, keeps its GPU meanwhile, and the next group there would run out of memory.
"""

import time
from collections.abc import Callable, Iterable

from rankcast.gpu_worker.gpu_memory import memory_holders
from rankcast.gpu_worker.processes import Process, end, processes


class Remains:
    """Of the ranks with these pids. Each began a session, by which what it started is known; a process
    that left that session on purpose is nobody's any more."""

    def __init__(
        self,
        ranks: Iterable[int],
        *,
        processes: Callable[[], Iterable[Process]] = processes,
        end: Callable[[Iterable[int], float], bool] = end,
        memory_holders: Callable[[], frozenset[int]] = memory_holders,
    ) -> None:
        self._ranks = frozenset(ranks)
        #: Those that memory may still be held by: a dead process has no session any more.
        self._seen = set(self._ranks)
        self._processes = processes
        self._end = end
        self._memory_holders = memory_holders

    def end(self, timeout_s: float) -> bool:
        """SIGKILL to every process of them, and to those that they start meanwhile; whether all are gone
        within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while living := self._living():
            if not self._end(living, deadline - time.monotonic()):
                return False
        return True

    def left(self, timeout_s: float = 0.0, *, has_gpus: bool) -> str:
        """What is still there after `timeout_s`, in words; empty once nothing is. `has_gpus`: memory on
        them counts, too."""
        if not self.end(timeout_s):
            return f"processes {_listed(self._living())}"
        holding = self._memory_holders() & self._seen if has_gpus else frozenset()
        return f"memory of the dead processes {_listed(holding)}" if holding else ""

    def _living(self) -> list[int]:
        found = [each for each in self._processes() if each.pid in self._ranks or each.session in self._ranks]
        living = [each.pid for each in found if each.is_alive]
        self._seen.update(living)
        return living


def _listed(pids: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(pids)))
