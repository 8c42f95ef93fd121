"""The tasks to which faults happen. Each tells in its first event of an attempt who its ranks are."""

import multiprocessing
import os
import subprocess
import time
from typing import Any

import torch
import torch.distributed as dist

from rankcast import DistributedWorker, task

LONG_S = 600.0


class Told(DistributedWorker):
    """What all of them share."""

    def tell_pids(self) -> None:
        """Stream {"attempt", "pids"}, a pid a rank."""
        pids: list[int | None] = [None] * self.world_size
        dist.all_gather_object(pids, os.getpid())
        self.add_streaming_result({"attempt": self.attempt, "pids": pids})


@task("fault/computes", world_size=2, cancel_grace_s=0.5)
class Computes(Told):
    """Every rank by itself, for long."""

    def __call__(self) -> None:
        self.tell_pids()
        time.sleep(LONG_S)


@task("fault/waits", world_size=2, cancel_grace_s=0.5)
class Waits(Told):
    """Rank 0 sits in a collective, for the last rank does not come."""

    def __call__(self) -> None:
        self.tell_pids()
        if self.rank == self.world_size - 1:
            time.sleep(LONG_S)
        dist.all_reduce(torch.ones(1))


@task("fault/asks", world_size=2)
class Asks(Told):
    """Steps of 20 ms, an event each, and asks at every step boundary whether to stop."""

    def __call__(self) -> None:
        self.tell_pids()
        step = 0
        while not self.should_stop():
            step += 1
            time.sleep(0.02)
            self.add_streaming_result({"attempt": self.attempt, "step": step})


@task("fault/deaf", world_size=2)
class Deaf(Told):
    """Never asks; a cancel has to kill it, after the grace that is the default."""

    def __call__(self) -> None:
        self.tell_pids()
        time.sleep(LONG_S)


@task("fault/loads", world_size=2)
class Loads(Told):
    """Every rank has a data loader, forked, and a program, started."""

    def __call__(self) -> None:
        loader = multiprocessing.get_context("fork").Process(target=time.sleep, args=[LONG_S])
        loader.start()
        subprocess.Popen(["sleep", str(LONG_S)])
        self.tell_pids()
        time.sleep(LONG_S)


@task("fault/counts", world_size=2)
class Counts(DistributedWorker):
    """Rank 0 streams numbers at a pace; returns how many it handed over, in this attempt."""

    def __call__(self, for_s: float, every_s: float) -> dict[str, Any]:
        n = 0
        due = time.monotonic()
        until = due + for_s
        while self.rank == 0 and due < until:
            self.add_streaming_result({"attempt": self.attempt, "n": n})
            n += 1
            due += every_s
            time.sleep(max(0.0, due - time.monotonic()))
        return {"attempt": self.attempt, "count": n}
