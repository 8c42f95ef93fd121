"""Task `examples/digits-train`: data-parallel training of a small diffusion model on scanned digits.

Each rank trains on its own shard of scikit-learn's 1,797 digits; DistributedDataParallel averages the
gradients, so all ranks hold the same weights after every step. Rank 0 casts what is worth watching.
"""

import hashlib
import itertools
import math
import time
from collections.abc import Iterator
from typing import Annotated, Any

import torch
import torch.distributed as dist
from digits_files import NAME, checkpoint_path
from digits_grid import draw_grid, to_ink, to_pictures
from digits_model import DigitModel, denoise, loss_of, save
from PIL import Image
from pydantic import Field
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rankcast import DistributedWorker, task

PEAK_LEARNING_RATE = 2e-3
WARM_UP_STEPS = 50
#: The weights that are kept are a moving average, over about 1 / (1 - EMA_DECAY) steps.
EMA_DECAY = 0.99
REPORT_EVERY = 25
#: Every so many reports one carries a picture.
PREVIEW_EVERY = 4
PREVIEW_STEPS = 20


@task("examples/digits-train", world_size=2, timeout_s=3600)
class DigitsTrain(DistributedWorker):
    def setup(self, **kwargs: Any) -> None:
        digits = load_digits()
        self.pictures = torch.from_numpy(to_pictures(digits.data)).to(self.device)
        self.labels = torch.from_numpy(digits.target).long().to(self.device)

    def __call__(
        self,
        steps: Annotated[int, Field(ge=1, le=20_000)] = 1000,
        batch_size: Annotated[int, Field(ge=8, le=512, description="pictures per rank and step")] = 128,
        seed: Annotated[int, Field(ge=0, lt=2**31)] = 0,
        name: Annotated[str, Field(pattern=NAME, description="what to call the checkpoint")] = "digits",
    ) -> dict[str, Any] | None:
        # Each rank needs its own noise. The first weights differ too, until DDP hands out rank 0's.
        torch.manual_seed(seed * self.world_size + self.rank)
        run = Training(self.device, steps)
        batches = self.batches(batch_size, seed)
        started, loss_sum, loss = time.perf_counter(), torch.zeros((), device=self.device), 0.0
        for step in range(1, steps + 1):
            pictures, labels = next(batches)
            loss_sum += run.step(pictures, labels)
            if step % REPORT_EVERY and step != steps:
                continue
            loss = self.mean_over_ranks(loss_sum / ((step - 1) % REPORT_EVERY + 1))
            loss_sum.zero_()
            self.report(run, step, steps, len(labels), loss, time.perf_counter() - started)
            if self.should_stop():
                return None
        digests = self.from_all_ranks(run.digest())
        if self.rank != 0:
            return None
        path = checkpoint_path(name)
        save(run.averaged(), path)
        return {
            "checkpoint": name,
            "path": str(path),
            "steps": steps,
            "final_loss": round(loss, 4),
            # The same for every rank, or data-parallel training went wrong.
            "weights_sha256": digests,
        }

    def batches(self, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless batches of this rank's shard, equally many on every rank.

        Each epoch is one shuffle that all ranks know, dealt out like cards (as DistributedSampler does).
        """
        shard_size = len(self.labels) // self.world_size
        batch_size = min(batch_size, shard_size)
        for epoch in itertools.count():
            order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(seed + epoch))
            shard = order[self.rank :: self.world_size][:shard_size].to(self.device)
            for first in range(0, shard_size - batch_size + 1, batch_size):
                chosen = shard[first : first + batch_size]
                yield self.pictures[chosen], self.labels[chosen]

    def report(
        self, run: "Training", step: int, steps: int, batch_size: int, loss: float, elapsed_s: float
    ) -> None:
        """Cast how far training is; only rank 0 is heard."""
        if self.rank != 0:
            return
        event: dict[str, Any] = {
            "step": step,
            "total": steps,
            "loss": round(loss, 4),
            "examples_per_s": round(step * batch_size * self.world_size / elapsed_s, 1),
            "eta_s": round((steps - step) * elapsed_s / step, 2),
        }
        if step == steps or step % (REPORT_EVERY * PREVIEW_EVERY) == 0:
            event["preview"] = self.preview(run.averaged(), f"step {step} of {steps}   loss {loss:.3f}")
        self.add_streaming_result(event, as_text_event=True)

    def preview(self, model: DigitModel, caption: str) -> Image.Image:
        """Two of each digit, from the same noise every time, so that a viewer sees them get better."""
        labels = torch.arange(10, device=self.device).repeat(2)
        *_, pictures = denoise(model, labels, steps=PREVIEW_STEPS, seed=0)
        return draw_grid(to_ink(pictures), columns=10, caption=caption)

    def mean_over_ranks(self, value: Tensor) -> float:
        dist.all_reduce(value)
        return value.item() / self.world_size

    def from_all_ranks(self, text: str) -> list[str]:
        """What each rank says, by rank."""
        told = [""] * self.world_size
        dist.all_gather_object(told, text)
        return told


class Training:
    """Model, optimizer and averaged weights of one run. Making one is a collective call (DDP)."""

    def __init__(self, device: torch.device, steps: int) -> None:
        model = DigitModel().to(device)
        self.ddp = DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY))
        self.optimizer = torch.optim.AdamW(model.parameters(), PEAK_LEARNING_RATE, fused=True)
        self.schedule = LambdaLR(
            self.optimizer,
            lambda step: min(1, (step + 1) / WARM_UP_STEPS) * (1 + math.cos(math.pi * step / steps)) / 2,
        )

    def step(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """Train on one batch; this rank's loss, still on the device."""
        loss = loss_of(self.ddp, pictures, labels)
        self.optimizer.zero_grad()
        loss.backward()  # DDP averages the gradients in here
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.ddp.module)
        return loss.detach()

    def averaged(self) -> DigitModel:
        model = self.average.module
        assert isinstance(model, DigitModel)
        return model

    def digest(self) -> str:
        """SHA-256 of this rank's weights as the last step left them, not averaged over time."""
        weights = torch.nn.utils.parameters_to_vector(self.ddp.module.parameters()).detach()
        return hashlib.sha256(weights.cpu().numpy().tobytes()).hexdigest()
