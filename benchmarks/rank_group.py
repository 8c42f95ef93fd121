"""Ours in the start row: a RankGroup off a forkserver, as a worker starts it, without the worker.

The group's `setup` proves it by an all-reduce, so that is within the time; peers do theirs after it.
"""

import time

from benchmarks.actor import ROOT, Reply, serve
from rankcast.gpu_worker.forkserver import ForkServer
from rankcast.gpu_worker.group import RankGroup
from rankcast.tasks.settings import Settings

TASK = "bench/group"


class Starter:
    """Holds the forkserver, as a worker does for its whole life."""

    def __init__(self, forkserver: ForkServer) -> None:
        self._forkserver = forkserver
        self._task = next(task for task in forkserver.tasks if task.name == TASK)

    def start(self) -> Reply:
        """One start until every rank is ready, then an orderly close; milliseconds."""
        printed: list[str] = []
        began = time.perf_counter()
        group = RankGroup.start(
            self._task,
            forkserver=self._forkserver,
            settings=Settings(),
            on_log=lambda rank, stream, text: printed.append(text),
            threads=1,
        )
        ms = (time.perf_counter() - began) * 1e3
        group.close()
        sums = {float(text.removeprefix("sum ")) for text in printed if text.startswith("sum ")}
        return {"ms": ms, "sum": sums.pop() if len(sums) == 1 else f"different sums: {sums}"}


if __name__ == "__main__":
    server = ForkServer.start([str(ROOT / "benchmarks" / "tasks.py")], counts_devices=False)
    serve([Starter(server).start])
    server.stop()
