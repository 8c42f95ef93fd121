"""Task `examples/digits-generate`: several ranks draw digits together, and everybody watches them emerge.

Each rank draws its share with noise of its own. Every few steps the unfinished digits are gathered
on rank 0, which tiles and casts them as one picture; a barrier keeps the ranks in step.
"""

import math
from typing import Annotated, Any

import numpy as np
import torch
import torch.distributed as dist
from digits_files import NAME, checkpoint_path
from digits_grid import draw_grid, to_ink
from digits_model import DigitModel, denoise, load
from pydantic import Field
from torch import Tensor

from rankcast import DistributedWorker, task


@task("examples/digits-generate", world_size=2, timeout_s=600)
class DigitsGenerate(DistributedWorker):
    def __call__(
        self,
        digits: Annotated[str, Field(pattern="^[0-9]{1,40}$", description="one row to draw")] = "0123456789",
        rows: Annotated[int, Field(ge=1, le=20)] = 6,
        steps: Annotated[int, Field(ge=1, le=1000)] = 50,
        preview_every: Annotated[int, Field(ge=1, le=1000)] = 5,
        guidance: Annotated[float, Field(ge=0, le=10)] = 1.5,
        seed: Annotated[int, Field(ge=0, lt=2**31)] = 0,
        checkpoint: Annotated[str, Field(pattern=NAME, description="named by digits-train")] = "digits",
    ) -> dict[str, Any] | None:
        model = self.load(checkpoint)
        labels = [int(digit) for digit in digits] * rows
        own_seed = seed * self.world_size + self.rank
        drawing = denoise(model, self.share_of(labels), steps=steps, guidance=guidance, seed=own_seed)
        for step, share in enumerate(drawing, 1):
            if self.should_stop():
                return None
            if step % preview_every and step != steps:
                continue
            ink = self.gather(share)[: len(labels)]
            if self.rank == 0:
                grid = draw_grid(ink, columns=len(digits), caption=f"step {step} of {steps}")
                event = {"step": step, "total": steps, "preview": grid}
                self.add_streaming_result(event, as_text_event=True)
            dist.barrier()
        if self.rank != 0:
            return None
        return {"grid": draw_grid(ink, columns=len(digits)), "labels": labels, "digits": ink}

    def load(self, checkpoint: str) -> DigitModel:
        path = checkpoint_path(checkpoint)
        if not path.exists():
            raise FileNotFoundError(
                f"this host has no checkpoint {checkpoint!r}: run examples/digits-train here first"
            )
        return load(path, self.device)

    def share_of(self, labels: list[int]) -> Tensor:
        """Every world_size-th label, from this rank's on; as many on every rank, which a gather needs."""
        padded_count = math.ceil(len(labels) / self.world_size) * self.world_size
        share = [labels[i % len(labels)] for i in range(self.rank, padded_count, self.world_size)]
        return torch.tensor(share, device=self.device)

    def gather(self, share: Tensor) -> np.ndarray:
        """All ranks' pictures as ink, in the order of the labels, on rank 0; none on the others."""
        parts = [torch.empty_like(share) for _ in range(self.world_size)] if self.rank == 0 else None
        dist.gather(share, parts, dst=0)
        return to_ink(torch.stack(parts, dim=1).flatten(0, 1)) if parts else np.empty(0)
