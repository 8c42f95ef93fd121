"""Tasks for machines with a GPU."""

import time

import torch
import torch.distributed as dist

from rankcast import DistributedWorker, task


def add_up(worker: DistributedWorker) -> float:
    """The sum of 1, 2, … over the ranks, added up on the device."""
    mine = torch.full((1024, 1024), float(worker.rank + 1), device=worker.device)
    if dist.get_backend() == "nccl":
        dist.all_reduce(mine)
        return float(mine[0, 0])
    on_cpu = mine.cpu()
    dist.all_reduce(on_cpu)
    return float(on_cpu[0, 0])


class Reports(DistributedWorker):
    def __call__(self):
        seen = self.run_in_worker(torch.cuda.current_device).result()
        return {
            "sum": add_up(self),
            "backend": dist.get_backend(),
            "device": str(self.device),
            "current": torch.cuda.current_device(),
            "current_in_loop_thread": seen,
            "is_bad_fork": torch.cuda._is_in_bad_fork(),
        }


@task("gpu/one")
class One(Reports):
    """One rank: NCCL."""


@task("gpu/two", world_size=2)
class Two(Reports):
    """Two ranks."""


@task("gpu/streams")
class Streams(DistributedWorker):
    def __call__(self, size: int = 4):
        latents = torch.arange(size, device=self.device).to(torch.bfloat16)
        self.add_streaming_result({"latents": latents})


@task("gpu/goes-on")
class GoesOn(DistributedWorker):
    """Shows a large tensor behind much work of the GPU, and changes it at once."""

    def __call__(self):
        latents = torch.arange(1024 * 1024, dtype=torch.float32, device=self.device)
        torch.cuda._sleep(2_000_000_000)
        latents += 1
        self.add_streaming_result({"latents": latents})
        is_busy = not torch.cuda.current_stream().query()
        latents.zero_()
        return is_busy


@task("gpu/loses-less")
class LosesLess(DistributedWorker):
    """Shows small values behind much work of the GPU, and changes them at once."""

    def __call__(self):
        loss = torch.zeros((), device=self.device)
        weights = torch.zeros(2, 3, dtype=torch.bfloat16, device=self.device)
        is_busy = []
        for step in range(3):
            torch.cuda._sleep(1_000_000_000)
            loss += 0.5
            weights += 1
            self.add_streaming_result(
                {
                    "step": step,
                    "loss": loss,
                    "more": [loss < 1, loss.long(), loss * torch.nan],
                    "weights": weights.T,
                }
            )
            is_busy.append(not torch.cuda.current_stream().query())
            loss += 0.25
        return is_busy


@task("gpu/hog", cancel_grace_s=0.2)
class Hog(DistributedWorker):
    """Takes 2 GiB of the device and does not stop by itself."""

    def __call__(self):
        self.held = torch.ones(2 * 1024**3, dtype=torch.uint8, device=self.device)
        torch.cuda.synchronize()
        self.add_streaming_result("holding")
        while True:
            time.sleep(0.01)
