"""Task `examples/sdxl-lora`: teaches Stable Diffusion XL a thing or a style from a few pictures.

All ranks encode the pictures together, then train one LoRA adapter: each on its part of every batch, and
DistributedDataParallel averages the gradients. Rank 0 casts loss and previews, saves what another attempt
needs to go on as if nothing had happened, and stores the adapter, which `examples/sdxl` draws with.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.distributed as dist
from PIL import Image
from pydantic import Field
from sdxl_model import decode, encode, load_pipeline
from sdxl_pictures import discs, read, to_image, to_pixels
from sdxl_training import Batch, Training
from torch import Tensor

from rankcast import DistributedWorker, task

REPORT_EVERY = 10
#: Every so many reports one carries a picture, and a checkpoint is saved.
PREVIEW_EVERY = 5
SAVE_EVERY = 5
PREVIEW_STEPS = 10

#: A URL, or a reference with one.
File = str | dict[str, Any]


@task("examples/sdxl-lora", world_size=2, timeout_s=3600)
class SdxlLora(DistributedWorker):
    def setup(self, **kwargs: Any) -> None:
        self.pipeline = load_pipeline(self.device)

    def __call__(
        self,
        prompt: Annotated[str, Field(max_length=2000, description="what all the pictures show")],
        images: Annotated[list[File], Field(min_length=1, max_length=64)] | None = None,
        steps: Annotated[int, Field(ge=1, le=20_000)] = 200,
        batch_size: Annotated[int, Field(ge=1, le=64, description="pictures per rank and step")] = 2,
        learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4,
        lora_rank: Annotated[int, Field(ge=1, le=128)] = 16,
        resolution: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] | None = None,
        seed: Annotated[int, Field(ge=0, lt=2**31)] = 0,
    ) -> dict[str, Any] | None:
        side = resolution or self.pipeline.default_sample_size * self.pipeline.vae_scale_factor
        latents = self.encoded(self.pictures(images), side)
        try:
            training = Training(
                self.pipeline,
                prompt=prompt,
                side=side,
                lora_rank=lora_rank,
                learning_rate=learning_rate,
                seed=seed,
            )
            losses: list[Tensor] = []
            for step in range(self.resume(training) + 1, steps + 1):
                losses.append(training.step(self.batch(latents, batch_size, seed=seed, step=step)))
                if step % REPORT_EVERY == 0 or step == steps:
                    loss = self.mean_over_ranks(torch.stack(losses).mean())
                    losses.clear()
                    self.report(prompt, step, steps, loss)
                if step % (REPORT_EVERY * SAVE_EVERY) == 0 and step != steps:
                    self.save_checkpoint({"step": step, "training": training.state_dict()}, step=step)
                if self.should_stop():
                    return None
            return self.result(training, steps, loss)
        finally:
            # The next job begins with the model as it was.
            self.pipeline.unload_lora_weights()

    def pictures(self, images: Sequence[File] | None) -> list[Image.Image]:
        """All that are given, or discs, on every rank: one that cannot be had fails everywhere, and no
        rank waits for another."""
        if images is None:
            return discs()
        return [read(self.fetch_input(given), f"images[{n}]") for n, given in enumerate(images)]

    def encoded(self, pictures: Sequence[Image.Image], side: int) -> Tensor:
        """Latents of all pictures, in order, on the CPU; each rank encodes its share."""
        share = pictures[self.rank :: self.world_size]
        own = [encode(self.pipeline.vae, to_pixels(picture, side)).cpu() for picture in share]
        shares = self.from_all_ranks(own)
        return torch.cat([shares[n % self.world_size][n // self.world_size] for n in range(len(pictures))])

    def batch(self, latents: Tensor, size: int, *, seed: int, step: int) -> Batch:
        """This rank's part of what all ranks train on in one step.

        They all draw the whole, which depends on seed and step alone. So the adapter comes out the same
        however many ranks share a batch, and whichever attempt makes the step.
        """
        generator = torch.Generator().manual_seed((step << 31) + seed)
        whole = size * self.world_size
        chosen = torch.randint(len(latents), (whole,), generator=generator)
        noise = torch.randn(whole, *latents.shape[1:], generator=generator)
        timesteps = torch.randint(1000, (whole,), generator=generator)
        mine = slice(self.rank, None, self.world_size)
        return Batch(latents[chosen[mine]], noise[mine], timesteps[mine])

    def resume(self, training: Training) -> int:
        """Set `training` to what the last attempt saved; how many steps that had made."""
        if self.last_checkpoint is None:
            return 0
        saved = torch.load(self.last_checkpoint, map_location=self.device, weights_only=True)
        training.load_state_dict(saved["training"])
        step: int = saved["step"]
        return step

    def report(self, prompt: str, step: int, steps: int, loss: float) -> None:
        """Cast how far training is; only rank 0 is heard."""
        if self.rank != 0:
            return
        event: dict[str, Any] = {"step": step, "total": steps, "progress": step / steps, "loss": loss}
        if step == steps or step % (REPORT_EVERY * PREVIEW_EVERY) == 0:
            event["preview"] = self.preview(prompt)
        self.add_streaming_result(event, as_text_event=True)

    def preview(self, prompt: str) -> Image.Image:
        """Drawn from the same noise every time, so that a viewer sees what the training changes."""
        drawn = self.pipeline(
            prompt,
            num_inference_steps=PREVIEW_STEPS,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        )
        return to_image(decode(self.pipeline.vae, drawn.images)[0])

    def result(self, training: Training, steps: int, loss: float) -> dict[str, Any] | None:
        digests = self.from_all_ranks(training.digest())
        if self.rank != 0:
            return None
        with tempfile.TemporaryDirectory() as folder:
            lora = self.save_artifact("lora.safetensors", training.save(Path(folder)))
        # The digest is the same for every rank, or data-parallel training went wrong.
        return {"lora": lora, "steps": steps, "final_loss": loss, "weights_sha256": digests}

    def mean_over_ranks(self, value: Tensor) -> float:
        dist.all_reduce(value)
        return value.item() / self.world_size

    def from_all_ranks(self, value: Any) -> list[Any]:
        """What each rank says, by rank."""
        told = [None] * self.world_size
        dist.all_gather_object(told, value)
        return told
