"""Pixels to pictures: tiles digits into a grid, enlarges it for human eyes, writes a line under it."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SIDE = 8
#: Ink of the scanned digits goes from 0 to 16.
FULL_INK = 16
#: Empty pixels around every digit, and how many times a pixel is enlarged.
MARGIN = 1
ZOOM = 6
CAPTION_HEIGHT = 22


def to_ink(pictures: Tensor) -> np.ndarray:
    """(n, 64) pictures between -1 and 1 → uint8 of shape (n, 8, 8), 0 to 16, as the scans have it."""
    ink = ((pictures.clamp(-1, 1) + 1) * (FULL_INK / 2)).round()
    return ink.reshape(-1, SIDE, SIDE).to("cpu").numpy().astype(np.uint8)


def to_pictures(ink: np.ndarray) -> np.ndarray:
    """The way back: (n, 64) or (n, 8, 8) from 0 to 16 → float32 of shape (n, 64) between -1 and 1."""
    return (ink.reshape(-1, SIDE * SIDE) / (FULL_INK / 2) - 1).astype(np.float32)


def draw_grid(ink: np.ndarray, *, columns: int, caption: str = "") -> Image.Image:
    """Ink of shape (n, 8, 8), row by row, as one grey image; `caption` stands below it."""
    rows = -(-len(ink) // columns)
    cell = SIDE + 2 * MARGIN
    small = np.zeros((rows * cell, columns * cell), np.uint8)
    for index, digit in enumerate(ink):
        top, left = (place * cell + MARGIN for place in divmod(index, columns))
        small[top : top + SIDE, left : left + SIDE] = digit * (255 / FULL_INK)
    grid = Image.fromarray(small)
    grid = grid.resize((grid.width * ZOOM, grid.height * ZOOM), Image.Resampling.BICUBIC)
    return _with_caption(grid, caption) if caption else grid


def _with_caption(grid: Image.Image, caption: str) -> Image.Image:
    sheet = Image.new("L", (grid.width, grid.height + CAPTION_HEIGHT), 32)
    sheet.paste(grid)
    ImageDraw.Draw(sheet).text(
        (ZOOM, grid.height + 3), caption, fill=220, font=ImageFont.load_default(size=13)
    )
    return sheet
