"""Step 6. What a rank stores beside the log: each value a file, and a reference that stands for it.

Knows neither torch nor Redis: where files go, and how tensors are written, is handed in.
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rankcast.gpu_worker.forms import IMAGE_MODES, data_url, save_array, save_image, text_size, types_of
from rankcast.gpu_worker.payload import MAX_EVENT_BYTES, MAX_OUTPUT_BYTES, OUTPUT_QUALITY, encode
from rankcast.tasks.artifacts import Artifacts, Write, content_type_of, reference, stored_name, url_of
from rankcast.tasks.errors import EventTooLarge, NotEncodable

#: By which name an image is meant in which format.
IMAGE_FORMATS = {".jpg": "jpeg", **{f".{name}": name for name in IMAGE_MODES}}


class TensorFiles(Protocol):
    """How tensors are kept: the module gpu_worker.tensors."""

    def is_tensors(self, value: Any, /) -> bool: ...

    def is_storable(self, value: Any, /) -> bool: ...

    def write_tensors(self, value: Any, path: Path, /) -> None: ...


@dataclass(frozen=True, slots=True)
class _File:
    """How the file of a value is written, and what its reference says beside the usual."""

    write: Write
    more: dict[str, Any] = field(default_factory=dict)


class AttemptArtifacts:
    """Those of one attempt, which alone numbers them. Safe to use from any thread.

    `store` None: nobody would serve what is stored, so it stays in events and output.
    """

    def __init__(
        self, store: Artifacts | None, job_id: str, fence: int, *, owner: str, tensors: TensorFiles
    ) -> None:
        self._store = store
        self._job_id = job_id
        self._fence = fence
        self._owner = owner
        self._tensors = tensors
        self._numbers = itertools.count(1)

    def save(self, name: str, value: Any) -> dict[str, Any]:
        """Store a value of any size under a name that says what it is; the reference.

        A Path names a file, which is copied; text and bytes are written as they are, images, arrays and
        tensors in the form that the end of the name says, anything else as JSON. ValueError for a name
        that does not fit; NotEncodable; EventTooLarge where there is no store; OSError when that does
        not take it.
        """
        file = self._file(name, value)
        return self.put(name, file)[1] if self._store else _inline(name, file)

    def apart(self, max_inline_bytes: int) -> "Apart | None":
        """Where one event, or the output, puts what it cannot hold; None without a store."""
        return Apart(self, max_inline_bytes) if self._store else None

    def put(self, name: str, file: _File, *, is_given: bool = True) -> tuple[str, dict[str, Any]]:
        """Store a file; what it is called there, and the reference. A name that is not given by the task
        gets a number, so that files which are fetched into one folder do not replace each other."""
        assert self._store is not None
        number = next(self._numbers)
        if not is_given:
            name = f"-{number}".join(os.path.splitext(name))
        stored = stored_name(self._fence, number, name)
        size = self._store.put(self._job_id, stored, file.write, owner=self._owner)
        return stored, reference(url_of(self._job_id, stored), name, size, **file.more)

    def remove(self, stored: str) -> None:
        assert self._store is not None
        self._store.remove(self._job_id, stored)

    def tensors(self, value: Any) -> _File | None:
        """The file of a tensor, or of several by name; None for types that it cannot hold."""
        several = list(value.values()) if isinstance(value, Mapping) else [value]
        if not all(self._tensors.is_storable(each) for each in several):
            return None
        more = {} if isinstance(value, Mapping) else _shape(value)
        return _File(lambda path: self._tensors.write_tensors(value, path), more)

    def _file(self, name: str, value: Any) -> _File:
        if isinstance(value, Path):
            if not value.is_file():
                raise ValueError(f"{value} is no file")
            return _File(lambda path: shutil.copyfile(value, path))
        if isinstance(value, str):
            return _File(lambda path: path.write_text(value, encoding="utf-8"))
        if isinstance(value, bytes | bytearray | memoryview):
            return _File(lambda path: path.write_bytes(value))
        if isinstance(value, types_of("PIL.Image", "Image")):
            return _image_file(name, value)
        if isinstance(value, types_of("numpy", "ndarray")):
            _need(name, "an array", ".npy")
            return _File(lambda path: _write_array(value, path), _shape(value))
        if self._tensors.is_tensors(value):
            _need(name, "a tensor", ".safetensors")
            if (file := self.tensors(value)) is None:
                raise NotEncodable("$", "safetensors has no type for it")
            return file
        _need(name, f"{type(value).__qualname__}, as JSON,", ".json")
        text = encode(value, quality=OUTPUT_QUALITY, max_bytes=MAX_OUTPUT_BYTES)
        return _File(lambda path: path.write_bytes(text))


class Apart:
    """What one event, or the output, has put beside the log."""

    def __init__(self, artifacts: AttemptArtifacts, max_inline_bytes: int) -> None:
        self.max_inline_bytes = max_inline_bytes
        self._artifacts = artifacts
        self._stored: list[str] = []

    def put(self, name: str, data: bytes, **more: Any) -> dict[str, Any]:
        return self._put(name, _File(lambda path: path.write_bytes(data), more))

    def put_tensor(self, value: Any) -> dict[str, Any] | None:
        file = self._artifacts.tensors(value)
        return None if file is None else self._put("tensor.safetensors", file)

    def take_back(self) -> None:
        while self._stored:
            self._artifacts.remove(self._stored.pop())

    def _put(self, name: str, file: _File) -> dict[str, Any]:
        stored, told = self._artifacts.put(name, file, is_given=False)
        self._stored.append(stored)
        return told


def _inline(name: str, file: _File) -> dict[str, Any]:
    """The same reference with the file in it; EventTooLarge if no event could hold that."""
    with tempfile.TemporaryDirectory(prefix="rankcast-") as folder:
        path = Path(folder) / "file"
        file.write(path)
        size = path.stat().st_size
        if text_size(size) > MAX_EVENT_BYTES:
            raise EventTooLarge(
                f"{name} has {size} bytes, and nowhere to go: give workers and web tier one --shared folder"
            )
        return reference(data_url(content_type_of(name), path.read_bytes()), name, size, **file.more)


def _image_file(name: str, image: Any) -> _File:
    suffix = _need(name, "an image", *IMAGE_FORMATS)
    more = {"width": image.width, "height": image.height}
    return _File(lambda path: save_image(image, path, IMAGE_FORMATS[suffix], OUTPUT_QUALITY), more)


def _write_array(array: Any, path: Path) -> None:
    with path.open("wb") as file:
        save_array(array, file)


def _shape(value: Any) -> dict[str, Any]:
    return {"shape": list(value.shape), "dtype": str(value.dtype)}


def _need(name: str, what: str, *suffixes: str) -> str:
    """How `name` ends; ValueError if that says something else of the file than `what` it is."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in suffixes:
        raise ValueError(f"{what} needs a name that ends in {' or '.join(suffixes)}, not {name!r}")
    return suffix
