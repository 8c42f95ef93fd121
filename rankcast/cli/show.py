"""What a job tells, made readable: one line, or the length of a bar.  Pure.

Everything shown here comes from jobs, so from whoever may submit them: control characters, which
could drive the terminal, are made visible.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

#: Text longer than this is cut in the middle of a line; bytes of a data URI are never shown.
MAX_TEXT = 200
_CONTROL = {code: f"\\x{code:02x}" for code in [*range(0x20), *range(0x7F, 0xA0)]}
_KEEPS_LINES = {code: text for code, text in _CONTROL.items() if code not in (0x09, 0x0A)}


class Reading(NamedTuple):
    """How far a job says it is: 0 to 1."""

    fraction: float
    #: "step 3/20" where it was told that way.
    label: str


def clean(text: str, *, keeps_lines: bool = False) -> str:
    """Text without control characters that a terminal would obey."""
    return text.translate(_KEEPS_LINES if keeps_lines else _CONTROL)


def reading(data: Any) -> Reading | None:
    """What an event says of progress, if it does.

    `step` of `total`, or `progress`: 0 to 1, or up to 100 as percent, or "10/250".
    """
    if not isinstance(data, Mapping):
        return None
    step, total = _number(data.get("step")), _number(data.get("total"))
    if step is not None and total:
        return Reading(_within(step / total), f"step {step:g}/{total:g}")
    progress = data.get("progress")
    if isinstance(progress, str):
        done, _, of = progress.partition("/")
        step, total = _parsed(done), _parsed(of)
        return Reading(_within(step / total), progress.strip()) if step is not None and total else None
    number = _number(progress)
    if number is None:
        return None
    label = "" if step is None else f"step {step:g}"
    return Reading(_within(number if number <= 1 else number / 100), label)


def fields(data: Any) -> str:
    """The other members of an event, on one line: `loss=0.12 preview=<image/jpeg 64×64, 2.1 kB>`."""
    if not isinstance(data, Mapping):
        return one_line(data)
    hidden = {"progress", "step", "total"} if reading(data) else set()
    return " ".join(f"{clean(str(k))}={one_line(v)}" for k, v in data.items() if k not in hidden)


def one_line(value: Any) -> str:
    """Any JSON value, short."""
    match value:
        case str():
            return clean(shorten(value))
        case bool() | None | int():
            return json.dumps(value)
        case float():
            return f"{value:.4g}"
        case {"content_type": str(kind), "url": str(url)}:
            size = f" {value['width']}×{value['height']}" if "width" in value and "height" in value else ""
            return clean(f"<{kind}{size}, {_data_size(url)}>" if url.startswith("data:") else url)
    text = json.dumps(shorten(value), ensure_ascii=False)
    return clean(text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…")


def pretty(value: Any) -> str:
    """Any JSON value over several lines, with data URIs cut short."""
    return clean(json.dumps(shorten(value), indent=2, ensure_ascii=False), keeps_lines=True)


def shorten(value: Any) -> Any:
    """The value with each data URI reduced to its type and size."""
    match value:
        case str() if value.startswith("data:") and len(value) > MAX_TEXT:
            return f"{value.partition(',')[0]},… ({_data_size(value)})"
        case list():
            return [shorten(item) for item in value]
        case dict():
            return {key: shorten(item) for key, item in value.items()}
    return value


def _data_size(url: str) -> str:
    size = len(url.partition(",")[2]) * 3 / 4
    return f"{size:.0f} B" if size < 1000 else f"{size / 1000:.1f} kB"


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _parsed(text: str) -> float | None:
    try:
        return _number(float(text))
    except ValueError:
        return None


def _within(fraction: float) -> float:
    return min(1.0, max(0.0, fraction))
