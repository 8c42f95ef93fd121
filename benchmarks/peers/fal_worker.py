"""The peer's worker class. Each rank imports this module when it unpickles that, and so comes to the CPU."""

from typing import Any

import torch
import torch.distributed as dist
from fal.distributed import DistributedWorker

from benchmarks.payload import play_burst, play_paced
from benchmarks.peers import fal_on_cpu  # noqa: F401  gloo for NCCL


class Source(DistributedWorker):  # type: ignore[misc]
    """The same calls as benchmarks/tasks.py."""

    def __call__(self, streaming: bool = False, *, mode: str, **call: Any) -> dict[str, Any]:
        if mode == "check":
            total = torch.ones(1)
            dist.all_reduce(total)
            return {"sum": total.item()}
        if self.rank != 0:
            return {}
        if mode == "burst":
            return {"began_ns": play_burst(self._emit, **call)}
        play_paced(self._emit, **call)
        return {}

    def _emit(self, event: dict[str, Any]) -> None:
        self.add_streaming_result(event, as_text_event=True)
