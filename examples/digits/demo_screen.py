"""What the demo shows in a terminal: state, progress bar, loss curve, and the picture as it comes in."""

import base64
import io
import math
from typing import Any

import numpy as np
from digits_grid import CAPTION_HEIGHT, MARGIN, SIDE, ZOOM
from PIL import Image
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

CELL = (SIDE + 2 * MARGIN) * ZOOM
#: Rows of digits that fit a small terminal.
ROWS_SHOWN = 2
SPARKS = "▁▂▃▄▅▆▇█"
SPARKLINE_WIDTH = 20


def image_of(encoded: dict[str, Any]) -> Image.Image:
    """The picture in an event: `{"content_type": "image/…", "url": "data:…;base64,…"}`."""
    return Image.open(io.BytesIO(bytes_of(encoded)))


def bytes_of(encoded: dict[str, Any]) -> bytes:
    return base64.b64decode(encoded["url"].partition(",")[2])


class JobView:
    """One job on the screen; tell it of every event, and let `rich.live.Live` draw it."""

    def __init__(self, title: str) -> None:
        self.losses: list[float] = []
        self.rate = ""
        self.picture: Image.Image | None = None
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(40),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
        )
        self.bar = self.progress.add_task(title, total=None, state="submitted")

    def show_state(self, state: str) -> None:
        self.progress.update(self.bar, state=state)

    def show_result(self, result: dict[str, Any], picture: Image.Image | None) -> None:
        self.progress.update(self.bar, completed=result["step"], total=result["total"])
        if "loss" in result:
            self.losses.append(result["loss"])
            self.rate = f"{result['examples_per_s']:,.0f} examples/s   {result['eta_s']:.1f} s to go"
        self.picture = picture or self.picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        parts: list[RenderableType] = [self.progress.get_renderable()]
        if self.losses:
            parts.append(Text(f"loss {self.losses[-1]:.3f} {sparkline(self.losses)}  {self.rate}", "cyan"))
        if self.picture and console.is_terminal:
            parts.append(half_blocks(self.picture, console.width))
        yield Group(*parts)


def sparkline(values: list[float]) -> str:
    """All of them, thinned out to fit, as a row of bars; the largest has full height."""
    values = values[:: math.ceil(len(values) / SPARKLINE_WIDTH)]
    low, high = min(values), max(values)
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0
    return "".join(SPARKS[round((value - low) * scale)] for value in values)


def half_blocks(image: Image.Image, max_width: int) -> Text:
    """The first rows of digits in characters whose two halves are two pixels, one above the other."""
    height = min(image.height - CAPTION_HEIGHT, ROWS_SHOWN * CELL)
    columns = min(image.width // ZOOM, max_width)
    lines = max(1, round(columns * height / image.width / 2))
    small = image.convert("L").crop((0, 0, image.width, height)).resize((columns, 2 * lines))
    ink = np.asarray(small)
    text = Text(no_wrap=True)
    for upper_row, lower_row in zip(ink[::2], ink[1::2], strict=True):
        for upper, lower in zip(upper_row, lower_row, strict=True):
            text.append("▀", f"rgb({upper},{upper},{upper}) on rgb({lower},{lower},{lower})")
        text.append("\n")
    text.rstrip()
    return text
