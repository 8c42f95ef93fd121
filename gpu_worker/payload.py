"""Step 6. Any value a model may produce, as one line of JSON.

orjson does the plain ones at full speed and asks `_special` about the rest, by type, never by a
class's name. torch, numpy, PIL and pydantic are looked up among the modules that are imported
already: a value of theirs cannot exist otherwise. What has no JSON form is refused with its path.

An object with bytes in it (`content_type`, `data`: null, `url`: a base64 data URL) has the form of
fal's text events. Going in, such an object is plain data and is never decoded here. Bytes that would
make the text too long go Apart, and a reference to them stands in their place.
"""

import contextlib
import dataclasses
import io
import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, Protocol, TypeVar

import orjson

from rankcast.gpu_worker.forms import (
    IMAGE_MODES,
    data_url,
    numpy_of,
    save_array,
    save_image,
    text_size,
    types_of,
)
from rankcast.gpu_worker.held import HELD_BYTES, Held
from rankcast.tasks.errors import EventTooLarge, NotEncodable

T = TypeVar("T")

#: Hard limits of one event and of a job's output.
MAX_EVENT_BYTES = 8 * 1024 * 1024
MAX_OUTPUT_BYTES = 64 * 1024 * 1024

#: Quality of images under way and of the final one; PNG has none.
EVENT_QUALITY, OUTPUT_QUALITY = 60, 95
#: Most that one event leaves to be encoded.
MAX_HELD_BYTES = 64 * 1024 * 1024
#: As deep as orjson goes.
MAX_DEPTH = 254

_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS


class Apart(Protocol):
    """Where bytes go that one text cannot hold; what is put there is whole when `put` returns."""

    #: What the text may hold of them itself, as base64.
    max_inline_bytes: int

    def put(self, name: str, data: bytes, **more: Any) -> dict[str, Any]:
        """The reference, with `more` in it. OSError when there is no room."""

    def put_tensor(self, value: Any) -> dict[str, Any] | None:
        """The same for a tensor, in a file of its own form; None if that has none for its type."""

    def take_back(self) -> None:
        """Remove what was put: nothing will refer to it."""


def encode(
    value: Any,
    image_format: str = "jpeg",
    *,
    quality: int = EVENT_QUALITY,
    max_bytes: int = MAX_EVENT_BYTES,
    apart: Apart | None = None,
) -> bytes:
    """`value` as one line of JSON, complete before this returns: later changes change nothing.

    Images, tensors, arrays and bytes stand in it themselves as long as there is room in the text;
    those behind that go `apart`, if that is given.

    NotEncodable, with the path of the first value that has no JSON form. EventTooLarge past
    `max_bytes`. OSError where `apart` has no room. ValueError for an image format other than jpeg, png
    or webp. NaN and infinities become null; a tensor or array with no dimensions is the number in it.
    """
    special = _Special(image_format, quality, max_bytes, apart)
    return special.text(value)


def draft(
    value: Any,
    image_format: str = "jpeg",
    *,
    apart: Apart | None = None,
    max_held_bytes: int = MAX_HELD_BYTES,
) -> "bytes | Draft":
    """The same for an event, but what takes long to encode, or to come from a GPU, may be left to
    `Draft.finish` (held.py): large images, tensors and arrays, and tensors on a GPU of any size. They are
    copied before this returns, or for a tensor on a GPU as soon as its stream gets there; `max_held_bytes`
    of them at most, others are encoded at once."""
    held = Held(max_held_bytes)
    special = _Special(image_format, EVENT_QUALITY, MAX_EVENT_BYTES, apart, held)
    text = special.text(value)
    with special.taking_back():
        held.end()
    return Draft(text, held, special) if held else text


def plain(value: Any, image_format: str = "jpeg") -> bytes | None:
    """The text of an event that orjson knows all of, as it does of most; None for any other. It is that of
    `encode`, at a fraction of the work."""
    if image_format not in IMAGE_MODES:
        return None
    try:
        text = orjson.dumps(value, None, _OPTIONS)
    except TypeError:
        return None
    return text if len(text) <= MAX_EVENT_BYTES else None


class Draft:
    """The text of an event in which some values are still to come."""

    def __init__(self, text: bytes, held: Held, special: "_Special") -> None:
        self._text = text
        self._held = held
        self._special = special
        self._error: Exception | None = None
        #: Bytes in memory, about.
        self.size = len(text) + held.size

    def drop(self) -> None:
        """Of what `finish` gave nothing is used: what went apart for it goes."""
        self._special.take_back()

    def is_ready(self) -> bool:
        """Whether `finish` has little to do, and nothing to wait for."""
        return self._error is None and self.size < HELD_BYTES and self._held.has_come()

    def finish(self) -> bytes:
        """The whole text; once. Errors as of `encode`, and each time that it is asked again; the path is one
        within the value that was held."""
        if self._error is None:
            try:
                return self._finished()
            except Exception as error:
                self._error = error
        raise self._error

    def _finished(self) -> bytes:
        special = self._special
        special.held = None
        text = self._held.filled_in(self._text, special.text)
        with special.taking_back():
            return special.checked(text)


class _Special:
    """orjson's `default`: turns one value that it does not know into one that it does, or raises.

    With `held` it leaves to later what that takes, in the order of the text.
    """

    def __init__(
        self,
        image_format: str,
        quality: int,
        max_bytes: int,
        apart: Apart | None = None,
        held: Held | None = None,
    ) -> None:
        if image_format not in IMAGE_MODES:
            raise ValueError(f"image_format is one of {', '.join(IMAGE_MODES)}, not {image_format!r}")
        self._image_format = image_format
        self._quality = quality
        self._max_bytes = max_bytes
        self._apart = apart
        self.held = held
        #: Of the text so far, what is base64.
        self.inline_bytes = 0

    def text(self, value: Any) -> bytes:
        """As `encode` has it."""
        try:
            return self.checked(orjson.dumps(value, self, _OPTIONS))
        except BaseException as error:
            self.take_back()
            if not isinstance(error, TypeError):
                raise
            # orjson tells what, but not where.
            special = _Special(self._image_format, self._quality, self._max_bytes)
            raise _explained(error, value, special) from error.__cause__

    def checked(self, text: bytes) -> bytes:
        """EventTooLarge for what has become too long."""
        if len(text) <= self._max_bytes:
            return text
        raise _too_large(len(text), self._max_bytes, can_store=self.inline_bytes > 0 and self._apart is None)

    @contextlib.contextmanager
    def taking_back(self) -> Iterator[None]:
        """What went apart goes again if this fails."""
        try:
            yield
        except BaseException:
            self.take_back()
            raise

    def take_back(self) -> None:
        if self._apart is not None:
            self._apart.take_back()

    def __call__(self, value: Any) -> Any:
        try:
            cls: Any = type(value)
            return _converter_of(cls)(self, value)
        except _Refused:
            raise
        except (ValueError, OSError, RuntimeError) as error:
            raise TypeError(f"{_name(type(value))} has no JSON form: {error}") from error

    def object(self, content_type: str, data: bytes, **more: Any) -> dict[str, Any]:
        """The form of everything that is bytes in the end."""
        self.check_size(len(data))
        self.inline_bytes += text_size(len(data))
        return {"content_type": content_type, **more, "data": None, "url": data_url(content_type, data)}

    def check_copy(self, size: int) -> None:
        """EventTooLarge before so many bytes are copied that have to stand in the text."""
        if self._apart is None:
            self.check_size(size)

    def check_size(self, size: int) -> None:
        """EventTooLarge before a large value is copied, and not after."""
        if text_size(size) > self._max_bytes:
            raise _Refused(_too_large(text_size(size), self._max_bytes, can_store=self._apart is None))

    def room(self, size: int) -> Apart | None:
        """Where so many bytes have to go, if the text has no room for them."""
        if self._apart is None or self.inline_bytes + text_size(size) <= self._apart.max_inline_bytes:
            return None
        return self._apart

    def bytes(self, value: Any) -> Any:
        if apart := self.room(len(value)):
            return _stored(lambda: apart.put("data.bin", bytes(value)))
        self.check_size(len(value))
        return self.object("application/octet-stream", bytes(value), size=len(value))

    def image(self, value: Any) -> Any:
        if self.held is not None and (mark := self.held.image(value)):
            return mark
        buffer = io.BytesIO()
        save_image(value, buffer, self._image_format, self._quality)
        data, about = buffer.getvalue(), {"width": value.width, "height": value.height}
        if apart := self.room(len(data)):
            return _stored(lambda: apart.put(f"image.{self._image_format}", data, **about))
        return self.object(f"image/{self._image_format}", data, **about)

    def tensor(self, value: Any) -> Any:
        """The values as `numpy.save` writes them. What numpy has no type for (bfloat16, float8) goes
        as float32, which holds it exactly; `dtype` is the tensor's own. Apart it is a safetensors file."""
        if value.ndim == 0:
            return self._scalar(value)
        size = value.numel() * value.element_size()
        self.check_copy(size)
        if self.held is not None and (mark := self.held.tensor(value)):
            return mark
        if apart := self.room(size):
            put = _stored(partial(apart.put_tensor, value))
            if put is not None:
                return put
        return self._saved("application/tensor", numpy_of(value), str(value.dtype))

    def _scalar(self, tensor: Any) -> Any:
        """The number in it. A complex one has no JSON form, which the caller is to hear now."""
        if self.held is not None and not tensor.is_complex() and (mark := self.held.tensor(tensor)):
            return mark
        return tensor.item()

    def array(self, value: Any) -> Any:
        if value.ndim == 0:
            return value.item()
        self.check_copy(value.nbytes)
        if self.held is not None and (mark := self.held.array(value)):
            return mark
        return self._saved("application/ndarray", value, str(value.dtype))

    def _saved(self, content_type: str, array: Any, dtype: str) -> Any:
        buffer = io.BytesIO()
        save_array(array, buffer)
        data, about = buffer.getvalue(), {"shape": list(array.shape), "dtype": dtype}
        if apart := self.room(len(data)):
            return _stored(lambda: apart.put("array.npy", data, **about))
        return self.object(content_type, data, **about)

    def number(self, value: Any) -> Any:
        plain = value.item()
        # A long double's item is itself.
        return float(plain) if type(plain) is type(value) else plain


@lru_cache(1024)
def _converter_of(cls: Any) -> Callable[[_Special, Any], Any]:
    """What to do with values of a type. TypeError if there is nothing to be done."""
    for special, convert in (
        (types_of("numpy", "generic"), _Special.number),
        (types_of("numpy", "ndarray"), _Special.array),
        (types_of("torch", "Tensor"), _Special.tensor),
        (types_of("PIL.Image", "Image"), _Special.image),
        (types_of("pydantic", "BaseModel"), lambda _, value: value.model_dump()),
        ((bytes, bytearray, memoryview), _Special.bytes),
        ((tuple,), lambda _, value: list(value)),
        ((float,), lambda _, value: float(value)),
        ((os.PathLike,), lambda _, value: os.fsdecode(value)),
        ((Mapping,), lambda _, value: dict(value)),
    ):
        if issubclass(cls, special):
            return convert
    if dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls)]
        return lambda _, value: {name: getattr(value, name) for name in names}
    raise TypeError(f"{_name(cls)} has no JSON form")


class _Refused(Exception):
    """Not for want of a JSON form: `cause` is what the caller has to hear."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _stored(put: Callable[[], T]) -> T:
    try:
        return put()
    except OSError as error:
        raise _Refused(error) from error


def _explained(error: TypeError, value: Any, special: _Special) -> Exception:
    """What stopped orjson: a refusal, or a value without a JSON form, with its place."""
    if isinstance(error.__cause__, _Refused):
        return error.__cause__.cause
    return _located(value, special, error)


def _located(value: Any, special: _Special, error: TypeError) -> NotEncodable:
    """Walk the value as the encoder does, to the place that stopped it."""
    return _first_fault(value, special, "$", ()) or NotEncodable("$", str(error))


def _first_fault(value: Any, special: _Special, path: str, above: tuple[int, ...]) -> NotEncodable | None:
    if id(value) in above:
        return NotEncodable(path, "it contains itself")
    if len(above) >= MAX_DEPTH:
        return NotEncodable(path, f"it lies more than {MAX_DEPTH} levels deep")
    above = (*above, id(value))
    try:
        parts = _parts(value, special, path)
    except TypeError as error:
        return NotEncodable(path, str(error))
    except _Refused:
        # It has a form, and is only large.
        return None
    faults = (_first_fault(part, special, part_path, above) for part_path, part in parts)
    return next((fault for fault in faults if fault), None)


def _parts(value: Any, special: _Special, path: str) -> list[tuple[str, Any]]:
    """What a value holds, each with its path. TypeError if it cannot be encoded."""
    if isinstance(value, dict):
        for key in value:
            # Also a key with half a surrogate pair.
            if not isinstance(key, str):
                raise TypeError(f"its key {key!r} is no text")
            orjson.dumps(key)
        return [(f"{path}.{key}", part) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [(f"{path}[{index}]", part) for index, part in enumerate(value)]
    try:
        orjson.dumps(value, option=_OPTIONS)
    except TypeError as error:
        if str(error).startswith("Type is not JSON serializable"):
            return [(path, special(value))]
        raise
    return []


def _name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _too_large(size: int, max_bytes: int, *, can_store: bool = False) -> EventTooLarge:
    instead = "; or give workers and web tier one --shared folder: then it is stored beside the log"
    return EventTooLarge(
        f"{size} bytes of JSON are more than the {max_bytes} that are allowed; "
        f"send it in parts, smaller, or less often{instead if can_store else ''}"
    )
