"""The parts of an output, and which of them are files.  Pure.

A part is named as errors name it: `$` is all of it, `$.images[0]` an item of a member.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeGuard

#: Of the parts that there are, so many are named to who asked for another.
MAX_NAMED = 20


def parts(value: Any, path: str = "$") -> Iterator[tuple[str, Any]]:
    """Every part with its path, outer ones first. What is in a file's object is no part."""
    yield path, value
    if is_file_object(value):
        return
    if isinstance(value, dict):
        for name, member in value.items():
            yield from parts(member, f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from parts(item, f"{path}[{index}]")


def is_file_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether this stands for an image, a tensor or bytes, kept in the URL or behind it."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("content_type"), str)
        and isinstance(value.get("url"), str)
    )


def part(output: Any, path: str) -> Any:
    """The part of that path, with or without `$.` before it. ValueError if there is none."""
    wanted = path if path.startswith("$") else f"${path}" if path.startswith("[") else f"$.{path}"
    for found, value in parts(output):
        if found == wanted:
            return value
    known = ", ".join(name for name, _ in islice(parts(output), MAX_NAMED))
    raise ValueError(f"the output has no {wanted}; it has {known}")


def to_be_kept(output: Any) -> Any:
    """What a file of this output should hold: the one file in it, or all of it where there is none.

    ValueError, with their paths, where there are several.
    """
    files = {path: value for path, value in parts(output) if is_file_object(value)}
    if len(files) > 1:
        raise ValueError(f"the output has {len(files)} files; choose with --at: {', '.join(files)}")
    return next(iter(files.values()), output)
