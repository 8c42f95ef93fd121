"""A LoRA adapter in training: small matrices beside the attention of a frozen UNet."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline
from diffusers.training_utils import cast_training_params
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

#: Layers of the UNet that get an adapter.
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


@dataclass(frozen=True)
class Batch:
    """Latents of shape (n, 4, h, w); the noise that is put on them; how much of it, as n timesteps."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor


class Training:
    """Adapter, optimizer and what the UNet is told of every picture. Making one is a collective call (DDP).

    The adapter stays in the pipeline until that is told `unload_lora_weights`.
    """

    def __init__(
        self,
        pipeline: StableDiffusionXLPipeline,
        *,
        prompt: str,
        side: int,
        lora_rank: int,
        learning_rate: float,
        seed: int,
    ) -> None:
        self.pipeline, self.device = pipeline, pipeline.device
        self.schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.told = self._condition(prompt, side)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # As large as its rank, its alpha scales it by 1, which is what is read where none is told.
            config = LoraConfig(r=lora_rank, lora_alpha=lora_rank, target_modules=TARGETS)
            pipeline.unet.add_adapter(config)
        cast_training_params(pipeline.unet, torch.float32)
        self.weights = [weight for weight in pipeline.unet.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, learning_rate)
        self.ddp = DistributedDataParallel(
            pipeline.unet, device_ids=[self.device] if self.device.type == "cuda" else None
        )

    def step(self, batch: Batch) -> Tensor:
        """Train on this rank's part of a batch; its loss, still on the device."""
        noise = batch.noise.to(self.device)
        timesteps = batch.timesteps.to(self.device)
        noisy = self.schedule.add_noise(batch.latents.to(self.device), noise, timesteps)
        count = len(noisy)
        guess = self.ddp(
            noisy.to(self.pipeline.unet.dtype),
            timesteps,
            encoder_hidden_states=self.told["prompt"].expand(count, -1, -1),
            added_cond_kwargs={
                "text_embeds": self.told["pooled"].expand(count, -1),
                "time_ids": self.told["sizes"].expand(count, -1),
            },
        ).sample
        loss = torch.nn.functional.mse_loss(guess.float(), noise)
        self.optimizer.zero_grad()
        loss.backward()  # DDP averages the gradients in here
        self.optimizer.step()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        return {"lora": self._lora(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        set_peft_model_state_dict(self.pipeline.unet, state["lora"])
        self.optimizer.load_state_dict(state["optimizer"])

    def save(self, folder: Path) -> Path:
        """Write the adapter as `load_lora_weights` of any such pipeline reads it; the file."""
        name = "lora.safetensors"
        self.pipeline.save_lora_weights(
            folder, unet_lora_layers=convert_state_dict_to_diffusers(self._lora()), weight_name=name
        )
        return folder / name

    def digest(self) -> str:
        """SHA-256 of this rank's adapter."""
        weights = torch.nn.utils.parameters_to_vector(self.weights).detach()
        return hashlib.sha256(weights.cpu().numpy().tobytes()).hexdigest()

    def _lora(self) -> dict[str, Tensor]:
        return get_peft_model_state_dict(self.pipeline.unet)

    @torch.no_grad()
    def _condition(self, prompt: str, side: int) -> dict[str, Tensor]:
        """The prompt; and that pictures were of this size, were not cropped, and shall be of this size."""
        embeds, _, pooled, _ = self.pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
        sizes = torch.tensor([[side, side, 0, 0, side, side]], dtype=embeds.dtype, device=self.device)
        return {"prompt": embeds, "pooled": pooled, "sizes": sizes}
