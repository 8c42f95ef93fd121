"""What a payload holds once it has been sent; `from payloads import ...`."""

import base64
import io
import json
from typing import Any

import numpy as np
from PIL import Image

from rankcast.gpu_worker.payload import encode


def decoded(value: Any, **options: Any) -> Any:
    return json.loads(encode(value, **options))


def bytes_of(encoded: dict[str, Any]) -> bytes:
    head, _, tail = encoded["url"].partition(",")
    assert head == f"data:{encoded['content_type']};base64"
    return base64.b64decode(tail, validate=True)


def array_of(encoded: dict[str, Any]) -> np.ndarray:
    return np.load(io.BytesIO(bytes_of(encoded)), allow_pickle=False)


def image_of(encoded: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(bytes_of(encoded)))
