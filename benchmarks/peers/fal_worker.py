"""The peer's worker class, and what fal.distributed needs to run where there is no CUDA.

fal.distributed asks torch for NCCL and for a CUDA device. Importing this module, which each rank
does when it unpickles its worker class, swaps both at run time: gloo for NCCL, and selecting a
device does nothing. Everything else is fal's own code, untouched.
"""

from typing import Any

import torch
import torch.distributed as dist
from fal.distributed import DistributedWorker

from benchmarks.payload import play_burst, play_paced

_init_process_group = dist.init_process_group


def _init_gloo(*args: Any, **kwargs: Any) -> None:
    kwargs.pop("device_id", None)
    _init_process_group(*args, **{**kwargs, "backend": "gloo"})


def _select_no_device(device: Any) -> None:
    """There is no CUDA device to select."""


dist.init_process_group = _init_gloo
torch.cuda.set_device = _select_no_device
torch.set_num_threads(1)


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
