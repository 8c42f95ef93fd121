"""Task `examples/sdxl`: each rank draws a picture of its own, and everybody watches all of them emerge.

Data parallel: every rank holds the whole pipeline, and its noise comes from its picture's own seed. Every
few steps all ranks decode what they have, and rank 0 gathers, tiles and casts it as one picture.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any

import torch
import torch.distributed as dist
from PIL import Image
from pydantic import Field
from safetensors.torch import load_file
from sdxl_model import decode, load_pipeline, preview_decoder
from sdxl_pictures import tiled, to_image
from torch import Tensor

from rankcast import DistributedWorker, task

#: In pixels. None is what the model was trained at: 1024, and 64 for the tiny one.
Side = Annotated[int, Field(ge=64, le=2048, multiple_of=8)] | None
#: A URL, or a reference with one.
File = str | dict[str, Any]
Prompt = Annotated[str, Field(max_length=2000)]
Steps = Annotated[int, Field(ge=1, le=200)]


@task("examples/sdxl", world_size=2, timeout_s=600)
class Sdxl(DistributedWorker):
    def setup(self, **kwargs: Any) -> None:
        self.pipeline = load_pipeline(self.device)
        self.preview_decoder = preview_decoder(self.pipeline)

    def __call__(
        self,
        prompt: Prompt,
        negative_prompt: Prompt = "blurry, low quality",
        num_images: Annotated[int, Field(ge=1, le=16)] = 2,
        num_inference_steps: Steps = 20,
        width: Side = None,
        height: Side = None,
        guidance_scale: Annotated[float, Field(ge=0, le=30)] = 5.0,
        seed: Annotated[int, Field(ge=0, lt=2**31, description="of the first; the next has one more")] = 0,
        preview_every: Steps = 5,
        lora: Annotated[File, Field(description="what examples/sdxl-lora made")] | None = None,
    ) -> dict[str, Any] | None:
        draw = partial(
            self.pipeline,
            prompt=prompt,
            negative_prompt=negative_prompt,
            num_inference_steps=num_inference_steps,
            width=width,
            height=height,
            guidance_scale=guidance_scale,
        )
        turns = math.ceil(num_images / self.world_size)
        total = turns * num_inference_steps
        finished: list[Image.Image] = []

        def show(step: int, latents: Tensor) -> None:
            step += turn * num_inference_steps
            if step % preview_every and step != total:
                return
            unfinished = self.gather(decode(self.preview_decoder, latents))
            if self.rank == 0:
                preview = tiled([*finished, *unfinished][:num_images])
                event = {"step": step, "total": total, "progress": step / total, "preview": preview}
                self.add_streaming_result(event, as_text_event=True)

        with self.wearing(lora):
            for turn in range(turns):
                # Where pictures are fewer than ranks, the last ones draw what nobody gets: every rank
                # must be there when all of them meet.
                own_seed = seed + turn * self.world_size + self.rank
                latents = self.draw(draw, seed=own_seed, on_step=show)
                if latents is None:
                    return None
                finished += self.gather(decode(self.pipeline.vae, latents))
        if self.rank != 0:
            return None
        images = [self.save_artifact(f"image-{n}.png", finished[n]) for n in range(num_images)]
        return {"images": images, "seeds": [seed + n for n in range(num_images)], "prompt": prompt}

    def draw(
        self, draw: Callable[..., Any], *, seed: int, on_step: Callable[[int, Tensor], None]
    ) -> Tensor | None:
        """This rank's picture, as latents; `on_step` is told of each step's. None once the job was cancelled.

        One picture at a time: in a batch it would depend, in its last digits, on the others.
        """

        def after_step(pipeline: Any, index: int, timestep: Any, tensors: dict[str, Tensor]) -> Any:
            if self.should_stop():
                # How diffusers is told, from here, to leave out the steps to come.
                pipeline._interrupt = True
            else:
                on_step(index + 1, tensors["latents"])
            return tensors

        drawn = draw(
            generator=torch.Generator().manual_seed(seed),
            callback_on_step_end=after_step,
            output_type="latent",
        )
        return None if self.pipeline.interrupt else drawn.images

    def gather(self, picture: Tensor) -> list[Image.Image]:
        """Every rank's picture, (1, height, width, 3) of uint8, on rank 0, in the order of ranks; none on
        the others."""
        parts = [torch.empty_like(picture) for _ in range(self.world_size)] if self.rank == 0 else None
        dist.gather(picture, parts, dst=0)
        return [to_image(part[0]) for part in parts or []]

    @contextlib.contextmanager
    def wearing(self, lora: File | None) -> Iterator[None]:
        """With these LoRA weights in the pipeline, and without them after: the next job is another's."""
        try:
            if lora is not None:
                self.pipeline.load_lora_weights(load_file(self.fetch_input(lora)))
            yield
        finally:
            if lora is not None:
                self.pipeline.unload_lora_weights()
