"""Two workers for fal.distributed (with_fal.py), and ported (with_rankcast.py); `diff` shows what it took."""

import asyncio
from typing import Any

import PIL.Image
import torch
import torch.distributed as dist

from rankcast import DistributedWorker, task


@task("examples/plasma", world_size=2)
class Plasma(DistributedWorker):
    """Each rank draws its own stripe of a picture; every few steps rank 0 shows all of them side by side."""

    def setup(self, size: int = 32, **kwargs: Any) -> None:
        places = torch.linspace(self.rank, self.rank + 1, size, device=self.device)
        self.x, self.y = places.expand(size, size), places.expand(size, size).T
        self.rank_print(f"draws from {self.rank} to {self.rank + 1}")

    def __call__(
        self, streaming: bool = False, hue: float = 0.3, steps: int = 6, every: int = 2, **kwargs: Any
    ) -> dict[str, Any]:
        stripe = torch.zeros_like(self.x)
        for step in range(steps):
            stripe += torch.sin(2**step * (self.x + hue) * self.y) / 2**step
            if streaming and step % every == 0:
                self.show(stripe, step)
        picture = self.picture(stripe)
        if self.rank != 0:
            return {}
        return {"image": picture, "steps": steps, "also": sorted(kwargs)}

    def show(self, stripe: torch.Tensor, step: int) -> None:
        picture = self.picture(stripe)
        if self.rank == 0:
            self.add_streaming_result({"image": picture, "step": step}, as_text_event=True)
        dist.barrier()

    def picture(self, stripe: torch.Tensor) -> PIL.Image.Image:
        """The stripes of all ranks on rank 0; elsewhere this rank's own."""
        grey = ((stripe / 2).clamp(-1, 1) * 127 + 128).to(torch.uint8)
        stripes = [torch.empty_like(grey) for _ in range(self.world_size)] if self.rank == 0 else None
        dist.gather(grey, stripes, dst=0)
        return PIL.Image.fromarray(torch.cat(stripes or [grey], dim=1).cpu().numpy())


@task("examples/fit", world_size=2)
class Fit(DistributedWorker):
    """Fits a line to points, of which each rank has some: coroutines, and a thread for the work."""

    async def setup(self, **kwargs: Any) -> None:
        self.x = torch.arange(self.rank, 20, self.world_size, device=self.device) / 10
        self.y = 3 * self.x - 1

    async def __call__(
        self, streaming: bool = False, max_steps: int = 40, learning_rate: float = 0.2, **kwargs: Any
    ) -> dict[str, Any]:
        if learning_rate <= 0:
            raise ValueError(f"a learning rate of {learning_rate} learns nothing")
        self.line = torch.zeros(2, device=self.device)
        for step in range(1, max_steps + 1):
            loss = await asyncio.wrap_future(self.run_in_worker(self.train_step, learning_rate))
            if streaming and self.rank == 0 and step % 10 == 0:
                event = {"step": step, "loss": loss, "progress": f"{step}/{max_steps}"}
                self.add_streaming_result(event, as_text_event=True)
        return {"slope": self.line[0].item(), "offset": self.line[1].item(), "final_loss": loss}

    def train_step(self, learning_rate: float) -> float:
        error = self.line[0] * self.x + self.line[1] - self.y
        told = torch.stack([(error * self.x).mean(), error.mean(), (error**2).mean()])
        dist.all_reduce(told)
        told /= self.world_size
        self.line -= learning_rate * told[:2]
        return float(told[2])
