"""A class-conditional diffusion model of 8×8 digits, small enough to train on a laptop's CPU.

Time t runs from 0, a clean picture, to 1, pure noise, along a quarter circle:

    z = cos(πt/2)·x + sin(πt/2)·noise            (Nichol & Dhariwal 2021, the cosine schedule)

The network predicts the velocity v = cos(πt/2)·noise − sin(πt/2)·x (Salimans & Ho 2022), from which
picture and noise both follow by turning back. Pictures are float tensors of shape (n, 64) between
-1, empty, and 1, full ink; labels are int64 tensors of shape (n,).

This module knows nothing of ranks, jobs or files but the checkpoint.
"""

import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PIXELS = 64
#: The label that means "any digit": learnt by hiding some labels, needed for guidance.
ANY_DIGIT = 10
#: Share of labels hidden while training (Ho & Salimans 2022).
HIDDEN_LABELS = 0.1


class Block(nn.Module):
    """One residual step; `condition`, of shape (n, width), tells time and label."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        return hidden + self.down(F.silu(self.up(self.norm(hidden) + condition)))


class DigitModel(nn.Module):
    """A residual MLP: (n, 64) noisy pictures, (n,) times and (n,) labels in, (n, 64) velocities out."""

    def __init__(self, width: int = 192, depth: int = 3) -> None:
        super().__init__()
        self.size = {"width": width, "depth": depth}
        self.time = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(ANY_DIGIT + 1, width)
        self.first = nn.Linear(PIXELS, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.last = nn.Linear(width, PIXELS)

    def forward(self, noisy: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        # From a quarter turn over all of time to 32 of them: both coarse and fine differences show.
        angles = t[:, None] * (math.pi / 2 * 2 ** torch.linspace(0, 5, 16, device=t.device))
        condition = self.time(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.label(labels)
        hidden = self.first(noisy)
        for block in self.blocks:
            hidden = block(hidden, condition)
        out: Tensor = self.last(hidden)
        return out


def loss_of(model: nn.Module, pictures: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of the predicted velocity, at one random time and noise per picture."""
    hidden = torch.rand(len(labels), device=labels.device) < HIDDEN_LABELS
    labels = labels.masked_fill(hidden, ANY_DIGIT)
    t = torch.rand(len(pictures), device=pictures.device)
    noise = torch.randn_like(pictures)
    cos, sin = _turn(t[:, None])
    velocity = model(cos * pictures + sin * noise, t, labels)
    return F.mse_loss(velocity, cos * noise - sin * pictures)


@torch.no_grad()
def denoise(
    model: nn.Module, labels: Tensor, *, steps: int, guidance: float = 1.5, seed: int
) -> Iterator[Tensor]:
    """Draw one picture per label out of noise; yields what each of `steps` DDIM steps leaves.

    Each is of shape (n, 64), less noisy than the one before; the last is the finished picture. The same
    seed draws the same pictures on the same device. `guidance` over 1 exaggerates what sets a digit
    apart from any other.
    """
    generator = torch.Generator(labels.device).manual_seed(seed)
    noisy = torch.randn(len(labels), PIXELS, generator=generator, device=labels.device)
    both = torch.cat([labels, torch.full_like(labels, ANY_DIGIT)])
    times = torch.linspace(1, 0, steps + 1, device=labels.device)
    for t, t_next in itertools.pairwise(times):
        asked, any_digit = model(noisy.repeat(2, 1), t.expand(len(both)), both).chunk(2)
        velocity = torch.lerp(any_digit, asked, guidance)
        cos, sin = _turn(t)
        picture = (cos * noisy - sin * velocity).clamp(-1, 1)
        # The noise that belongs to the clamped picture, not to the guess before clamping.
        noise = (noisy - cos * picture) / sin
        cos, sin = _turn(t_next)
        noisy = cos * picture + sin * noise
        yield noisy


def _turn(t: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)


def save(model: DigitModel, path: Path) -> None:
    """Write the weights whole or not at all: nobody ever reads half a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    torch.save({"size": model.size, "weights": model.state_dict()}, unfinished)
    os.replace(unfinished, path)


def load(path: Path, device: torch.device) -> DigitModel:
    """Read what `save` wrote; FileNotFoundError if there is none. Runs no code from the file."""
    checkpoint = torch.load(path, map_location=device, weights_only=True)
    model = DigitModel(**checkpoint["size"]).to(device)
    model.load_state_dict(checkpoint["weights"])
    return model.eval()
