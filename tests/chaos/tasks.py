"""The tasks of the chaos runs: a mixed load, and probes that hold still in one phase of a job's life.

Each writes down what it tells before and after it does (notes.py).
"""

import os
import time
import uuid
from collections.abc import Callable
from typing import Any, Literal

import notes
import torch
import torch.distributed as dist

from rankcast import DistributedWorker, task

HOLD_S = 60.0
LIMITS: dict[str, Any] = {"world_size": 2, "cancel_grace_s": 1, "silence_s": 4, "setup_timeout_s": 30}

Phase = Literal["starting", "setup", "running", "collective", "publishing", "flush", "finish"]


def stay(name: str, until: Callable[[], bool] = lambda: False) -> None:
    """Stay here for as long as the driver wants, and no longer than a minute."""
    give_up = time.monotonic() + HOLD_S
    while notes.is_held(name) and not until() and time.monotonic() < give_up:
        time.sleep(0.005)


class Told(DistributedWorker):
    """Writes down what it does, under a name that is drawn for each call."""

    def note(self, what: str, n: int = 0, detail: str = "") -> None:
        who = (type(self).__name__, self.rank, os.getpid(), self.job_id or "", self.attempt, self.call)
        notes.write(notes.Note(what, *who, n, detail))

    def setup(self, **kwargs: Any) -> None:
        self.call = ""
        self.note("setup")

    def do(self, work: Callable[[], None]) -> dict[str, Any]:
        """Run `work` as this call, and say how it ended."""
        names = [uuid.uuid4().hex]
        dist.broadcast_object_list(names)
        self.call, self.told = names[0], 0
        self.note("called")
        try:
            work()
        except BaseException as error:
            self.note("raised", detail=type(error).__name__)
            raise
        self.note("returned", self.told)
        return {"job": self.job_id, "call": self.call, "told": self.told}

    def tell(self) -> None:
        """Cast the next result; on other ranks than 0 nothing is cast, and nothing noted."""
        if self.rank == 0:
            self.note("telling", self.told)
            self.add_streaming_result(notes.result(self.job_id or "", self.call, self.told))
            self.note("told", self.told)
        self.told += 1


@task("chaos/steps", **LIMITS)
class Steps(Told):
    """Computes together and tells each step; stops when somebody cancels."""

    def __call__(self, steps: int = 5, delay_s: float = 0.0) -> dict[str, Any]:
        def work() -> None:
            for _ in range(steps):
                dist.all_reduce(torch.ones(1))
                time.sleep(delay_s)
                self.tell()
                if self.should_stop():
                    return

        return self.do(work)


@task("chaos/burst", **LIMITS)
class Burst(Told):
    """Tells as fast as it can, and returns while much of it is still on its way."""

    def __call__(self, count: int = 500) -> dict[str, Any]:
        def work() -> None:
            for _ in range(count):
                self.tell()

        return self.do(work)


@task("chaos/fails", **LIMITS)
class Fails(Told):
    """Tells some, and then its last rank raises while the first waits for it."""

    def __call__(self, steps: int = 3) -> dict[str, Any]:
        def work() -> None:
            for _ in range(steps):
                self.tell()
            dist.barrier()
            if self.rank == self.world_size - 1:
                raise ArithmeticError(f"as planned, {self.call}")
            dist.barrier()

        return self.do(work)


@task("chaos/trains", **LIMITS)
class Trains(Told):
    """Saves where it is every few steps, and goes on from there when it was lost."""

    def __call__(self, steps: int = 12) -> dict[str, Any]:
        def work() -> None:
            done = int(self.last_checkpoint.read_text()) if self.last_checkpoint else 0
            self.note("resumed", done)
            for step in range(done + 1, steps + 1):
                dist.all_reduce(torch.ones(1))
                time.sleep(0.01)
                self.tell()
                if step % 4 == 0:
                    self.save_checkpoint(str(step).encode(), "steps.txt", step=step)
                if self.should_stop():
                    return

        return self.do(work)


class Probe(Told):
    """Goes into one phase, says so, and stays there until the driver lets it go."""

    def setup(self, **kwargs: Any) -> None:
        super().setup()
        stay(f"setup-{type(self).__name__}")

    def __call__(self, hold: str, phase: Phase = "running", events: int = 2000) -> dict[str, Any]:
        self.name = hold

        def work() -> None:
            for _ in range(3):
                self.tell()
            self.note("phase", detail=phase)
            match phase:
                case "running":
                    self.run()
                case "collective":
                    self.meet()
                case "publishing":
                    self.publish()
                case "flush":
                    self.stay()
                    for _ in range(events):
                        self.tell()
                case "finish":
                    self.stay()
            self.tell()

        return self.do(work)

    def stay(self) -> None:
        stay(self.name, until=lambda: self.cancelled)

    def run(self) -> None:
        """Between two collectives for most of the time."""
        give_up = time.monotonic() + HOLD_S
        while time.monotonic() < give_up:
            goes_on = torch.tensor(int(notes.is_held(self.name)))
            dist.broadcast(goes_on, src=0)
            if self.should_stop() or not goes_on:
                return
            self.tell()
            time.sleep(0.03)

    def meet(self) -> None:
        """All ranks but the last wait in a collective."""
        if self.rank == self.world_size - 1:
            self.stay()
        dist.all_reduce(torch.ones(1))

    def publish(self) -> None:
        """Rank 0 tells without a pause worth the name."""
        if self.rank != 0:
            return self.stay()
        while notes.is_held(self.name) and not self.cancelled:
            for _ in range(10):
                self.tell()
            time.sleep(0.005)
        return None


@task("chaos/probe", **LIMITS)
class WarmProbe(Probe):
    pass


# Two names for the same, so that one of them is not loaded on a slot that the other has just used.


@task("chaos/cold-a", **LIMITS)
class ColdA(Probe):
    pass


@task("chaos/cold-b", **LIMITS)
class ColdB(Probe):
    pass
