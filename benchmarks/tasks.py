"""The tasks that the benchmarks run on Rankcast; peers/fal_worker.py is the same for fal.distributed."""

from typing import Any

import torch
import torch.distributed as dist

from benchmarks.payload import play_burst, play_paced
from rankcast import DistributedWorker, task


@task("bench/source", world_size=2)
class Source(DistributedWorker):
    """Rank 0 streams events at a pace or as a burst; the other rank has nothing to do."""

    def __call__(
        self, mode: str, count: int, first: int = 0, every_s: float = 0.0, linger_s: float = 0.0
    ) -> dict[str, Any]:
        if self.rank != 0:
            return {}
        if mode == "burst":
            return {"began_ns": play_burst(self._emit, count=count)}
        play_paced(self._emit, count=count, first=first, every_s=every_s, linger_s=linger_s)
        return {}

    def _emit(self, event: dict[str, Any]) -> None:
        self.add_streaming_result(event, as_text_event=True)


@task("bench/group", world_size=2)
class Group(DistributedWorker):
    """A group that proves itself before it is ready: every rank prints the sum of ones over the group."""

    def setup(self) -> None:
        total = torch.ones(1)
        dist.all_reduce(total)
        print(f"sum {total.item()}", flush=True)

    def __call__(self) -> None:
        """Never called: what is measured is the start."""
