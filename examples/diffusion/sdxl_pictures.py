"""Pictures of what a model draws."""

import math
from collections.abc import Sequence

from PIL import Image
from torch import Tensor


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
