"""Task `examples/digits-train`: data-parallel training of a small diffusion model on scanned digits.

Each rank trains on its own shard of scikit-learn's 1,797 digits; DistributedDataParallel averages the
gradients, so all ranks hold the same weights after every step. Rank 0 casts what is worth watching, and
saves what another attempt needs to go on as if nothing had happened: it ends with the same weights.
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
#: Every so many reports a checkpoint is saved.
SAVE_EVERY = 4


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
        done = self.resume(run)
        batches = itertools.islice(self.batches(batch_size, seed), done, None)
        started, loss_sum, loss = time.perf_counter(), torch.zeros((), device=self.device), 0.0
        for step in range(done + 1, steps + 1):
            pictures, labels = next(batches)
            loss_sum += run.step(pictures, labels)
            if step % REPORT_EVERY and step != steps:
                continue
            loss = self.mean_over_ranks(loss_sum / ((step - 1) % REPORT_EVERY + 1))
            loss_sum.zero_()
            step_s = (time.perf_counter() - started) / (step - done)
            self.report(run, step, steps, len(labels) * self.world_size / step_s, loss, step_s)
            if step % (REPORT_EVERY * SAVE_EVERY) == 0 and step != steps:
                self.save_state(run, step)
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

    def resume(self, run: "Training") -> int:
        """Set `run`, and this rank's random numbers, to what the last attempt saved; how many steps it
        had made."""
        if self.last_checkpoint is None:
            return 0
        saved = torch.load(self.last_checkpoint, map_location=self.device, weights_only=True)
        run.load_state_dict(saved["training"])
        set_random_state(self.device, saved["random"][self.rank])
        step: int = saved["step"]
        return step

    def save_state(self, run: "Training", step: int) -> None:
        """Save what `resume` needs. Weights are the same on all ranks, random numbers are not."""
        random = self.from_all_ranks(random_state(self.device))
        if self.rank == 0:
            self.save_checkpoint({"step": step, "training": run.state_dict(), "random": random}, step=step)

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
        self, run: "Training", step: int, steps: int, examples_per_s: float, loss: float, step_s: float
    ) -> None:
        """Cast how far training is; only rank 0 is heard."""
        if self.rank != 0:
            return
        event: dict[str, Any] = {
            "step": step,
            "total": steps,
            "loss": round(loss, 4),
            "examples_per_s": round(examples_per_s, 1),
            "eta_s": round((steps - step) * step_s, 2),
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

    def from_all_ranks(self, value: Any) -> list[Any]:
        """What each rank says, by rank."""
        told = [None] * self.world_size
        dist.all_gather_object(told, value)
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

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {
            "model": self.ddp.module,
            "average": self.average,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }

    def averaged(self) -> DigitModel:
        model = self.average.module
        assert isinstance(model, DigitModel)
        return model

    def digest(self) -> str:
        """SHA-256 of this rank's weights as the last step left them, not averaged over time."""
        weights = torch.nn.utils.parameters_to_vector(self.ddp.module.parameters()).detach()
        return hashlib.sha256(weights.cpu().numpy().tobytes()).hexdigest()


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Of the generators that a step draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(device: torch.device, state: dict[str, Tensor]) -> None:
    """Draw from here on as the rank did that `random_state` was asked on."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
