"""Pictures: made to fit a model, told apart from what is none, tiled into one."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError
from torch import Tensor

#: Of the pictures that are drawn for want of given ones.
COLOURS = ("crimson", "orange", "gold", "seagreen", "teal", "royalblue", "indigo", "hotpink")


def read(path: Path, name: str) -> Image.Image:
    """The picture in a file, upright and in RGB. ValueError, with its `name`, for what is none."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} is no picture that can be read ({type(error).__name__})") from None


def discs() -> list[Image.Image]:
    """Eight pictures of a coloured disc, to train on where none are given."""
    return [_disc(colour) for colour in COLOURS]


def _disc(colour: str) -> Image.Image:
    image = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(image).ellipse((48, 48, 208, 208), fill=colour)
    return image


def to_pixels(image: Image.Image, side: int) -> Tensor:
    """The largest square in the middle, as (1, 3, side, side) from -1 to 1."""
    square = np.array(ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS))
    return torch.from_numpy(square).permute(2, 0, 1)[None] / 127.5 - 1


def to_image(picture: Tensor) -> Image.Image:
    """(height, width, 3) of uint8 → an image."""
    return Image.fromarray(picture.cpu().numpy())


def tiled(images: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size in about as many rows as columns, in order."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, rows * height))
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    return sheet
