"""Step 6. Tensors in a file: safetensors, which no reader runs code from. Knows torch."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

#: What a file can hold; complex128 and quantized types, for example, it cannot.
DTYPES = frozenset(
    (
        torch.bool,
        *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
        *(torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float8_e4m3fn, torch.float8_e5m2),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
    )
)

_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


def is_tensors(value: Any) -> bool:
    """Whether it is a tensor, or a mapping of names to tensors with at least one in it."""
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(each, Tensor) for each in value.values())
    return isinstance(value, Tensor)


def is_storable(value: Tensor) -> bool:
    """Whether a file can hold it as it is, bit for bit."""
    return value.dtype in DTYPES


def write_tensors(value: Tensor | Mapping[str, Tensor], path: Path) -> None:
    """Write a tensor, called `tensor` in the file, or several by their names.

    ValueError for a type that a file cannot hold, OSError when the disk does not take it.
    """
    tensors = {"tensor": value} if isinstance(value, Tensor) else value
    for name, tensor in tensors.items():
        if not is_storable(tensor):
            raise ValueError(f"{name}: safetensors has no type for {tensor.dtype}")
    seen: set[int] = set()
    try:
        save_file({str(name): _packed(tensor, seen) for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        # It tells the system's error in words alone.
        if (found := _SYSTEM_ERROR.search(str(error))) is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from error


def _packed(tensor: Tensor, seen: set[int]) -> Tensor:
    """On the CPU, dense, and alone in its memory: a file takes neither views nor tied weights."""
    dense = tensor.detach().to("cpu")
    if dense.layout is not torch.strided:
        dense = dense.to_dense()
    dense = dense.resolve_conj().resolve_neg().contiguous()
    memory = dense.untyped_storage()
    if memory.data_ptr() in seen or memory.nbytes() != dense.nbytes:
        dense = dense.clone()
    seen.add(memory.data_ptr())
    return dense
