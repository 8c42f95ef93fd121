"""Step 6. The forms of images, arrays and tensors as bytes, and what those take in a text.

torch, numpy and PIL are looked up among the modules that are imported already: a value of theirs cannot
exist otherwise.
"""

import base64
import sys
from typing import Any

#: The modes that each format can store as they are; others become RGB, or RGBA if they have alpha.
IMAGE_MODES = {
    "jpeg": frozenset({"L", "RGB", "CMYK"}),
    "png": frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}),
    "webp": frozenset({"RGB", "RGBA"}),
}
#: Longest side of an image that every format can store.
LONGEST_SIDE = 16_383


def text_size(size: int) -> int:
    """What so many bytes take as base64."""
    return (size + 2) // 3 * 4


def data_url(content_type: str, data: bytes) -> str:
    return f"data:{content_type};base64,{base64.b64encode(data).decode('ascii')}"


def types_of(module: str, *names: str) -> tuple[type, ...]:
    """Types of a module that is imported already; none of it otherwise."""
    found = sys.modules.get(module)
    types = tuple(getattr(found, name, None) for name in names)
    return tuple(t for t in types if isinstance(t, type)) if None not in types else ()


def save_image(image: Any, file: Any, image_format: str, quality: int) -> None:
    """Write an image, into a file or at a path; `quality` as its format has it, PNG has none."""
    options = {} if image_format == "png" else {"quality": quality}
    _storable(image, image_format).save(file, format=image_format.upper(), **options)


def save_array(array: Any, file: Any) -> None:
    """Write an array as `numpy.load` reads it; ValueError for one that would need pickle."""
    sys.modules["numpy"].save(file, array, allow_pickle=False)


def is_dense(tensor: Any) -> bool:
    """torch is there: somebody has a tensor."""
    return bool(tensor.layout is sys.modules["torch"].strided)


def numpy_of(tensor: Any) -> Any:
    """The values of a tensor, on the CPU. What numpy has no type for (bfloat16, float8) is float32,
    which holds it exactly."""
    dense = tensor.detach().to("cpu")
    if not is_dense(dense):
        dense = dense.to_dense()
    dense = dense.resolve_conj().resolve_neg()
    try:
        return dense.numpy()
    except TypeError:
        return dense.float().numpy()


def _storable(image: Any, image_format: str) -> Any:
    """The image in a mode that its format can store. JPEG has no alpha: it goes on white."""
    has_alpha = image.has_transparency_data
    modes = IMAGE_MODES[image_format]
    if image.mode in modes and not (has_alpha and image_format == "jpeg"):
        return image
    if not has_alpha:
        return image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    seen = image.convert("RGBA")
    if "RGBA" in modes:
        return seen
    white = sys.modules["PIL.Image"].new("RGBA", image.size, "white")
    white.alpha_composite(seen)
    return white.convert("RGB")
