"""A module that initialises CUDA when it is imported: no fork of it could use a GPU."""

import torch

from rankcast import DistributedWorker, task

ON_IMPORT = torch.zeros(1, device="cuda")


@task("gpu/eager")
class Eager(DistributedWorker):
    def __call__(self):
        return float((ON_IMPORT + 1).item())
