"""What fal.distributed needs to run where there is no CUDA.

It asks torch for NCCL and for a CUDA device. Importing this module, in the process that has the runner
and in each rank, swaps at run time: gloo for NCCL, the CPU for a worker's device, and selecting a device
does nothing. Everything else is fal's own code, untouched.
"""

from typing import Any

import torch
import torch.distributed as dist
from fal.distributed import DistributedWorker

_init_process_group = dist.init_process_group


def _init_gloo(*args: Any, **kwargs: Any) -> None:
    kwargs.pop("device_id", None)
    _init_process_group(*args, **{**kwargs, "backend": "gloo"})


def _select_no_device(device: Any) -> None:
    """There is no CUDA device to select."""


dist.init_process_group = _init_gloo
torch.cuda.set_device = _select_no_device
torch.set_num_threads(1)
DistributedWorker.device = torch.device("cpu")
