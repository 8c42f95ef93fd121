"""The Stable Diffusion XL pipeline that both tasks work with: real weights, or tiny random ones.

Nothing is ever downloaded.
"""

from pathlib import Path

import torch
from sdxl_files import PREVIEW_WEIGHTS, WEIGHTS
from torch import Tensor

try:
    # Beside diffusers, which would say later, and less clearly, that one of them is missing.
    import peft  # noqa: F401
    import transformers  # noqa: F401
    from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionXLPipeline
    from sdxl_tiny import tiny_pipeline
except ModuleNotFoundError as missing:
    raise ImportError(
        f"examples/diffusion needs rankcast[diffusion] (missing: {missing.name}): "
        "pip install 'rankcast[server,diffusion]'"
    ) from missing


def load_pipeline(device: torch.device, folder: Path | None = WEIGHTS) -> StableDiffusionXLPipeline:
    """Ready to draw on `device`, with all weights frozen; the same on every rank."""
    if folder:
        pipeline = StableDiffusionXLPipeline.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            add_watermarker=False,
            # The VAE overflows in float16, and does not in bfloat16.
            torch_dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
        )
    else:
        pipeline = tiny_pipeline()
    pipeline.to(device)
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        module.requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def preview_decoder(
    pipeline: StableDiffusionXLPipeline, folder: Path | None = PREVIEW_WEIGHTS
) -> AutoencoderKL | AutoencoderTiny:
    """What makes pictures of latents that are not finished."""
    if not folder:
        return pipeline.vae
    decoder = AutoencoderTiny.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, torch_dtype=pipeline.vae.dtype
    )
    return decoder.to(pipeline.device)


@torch.no_grad()
def decode(decoder: AutoencoderKL | AutoencoderTiny, latents: Tensor) -> Tensor:
    """(n, 4, h, w) latents → pictures, uint8 of shape (n, 8 h, 8 w, 3)."""
    scaled = latents.to(decoder.dtype) / decoder.config.scaling_factor
    pixels = decoder.decode(scaled).sample.float().clamp(-1, 1)
    return ((pixels + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """The way back: (n, 3, 8 h, 8 w), from -1 to 1 → latents, float32 of shape (n, 4, h, w)."""
    latents = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()
    return latents.float() * vae.config.scaling_factor
