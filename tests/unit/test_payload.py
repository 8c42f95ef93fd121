"""What a model produces travels as JSON, or is refused in the caller with the path of the value."""

import dataclasses
import datetime
import enum
import errno
import io
import json
import math
import uuid
from collections import ChainMap, OrderedDict, namedtuple
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import orjson
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from payloads import array_of, bytes_of, decoded, image_of
from PIL import Image

from rankcast.gpu_worker.forms import IMAGE_MODES
from rankcast.gpu_worker.payload import MAX_DEPTH, MAX_EVENT_BYTES, Draft, draft, encode, plain
from rankcast.tasks.errors import EventTooLarge, NotEncodable

Pair = namedtuple("Pair", "left right")
EVERY_MODE = (
    "1",
    "L",
    "LA",
    "La",
    "I",
    "F",
    "P",
    "RGB",
    "RGBA",
    "RGBa",
    "CMYK",
    "YCbCr",
    "HSV",
    "LAB",
    "I;16",
)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Box:
    size: int
    _inside: Any


class Model(pydantic.BaseModel):
    name: str = "m"
    when: datetime.date = datetime.date(2026, 1, 2)


class Holder(pydantic.BaseModel):
    thing: Any


class Label(str):
    """A user's kind of text."""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (2**63 - 1, 2**63 - 1),
        (math.nan, None),
        (-math.inf, None),
        ((1, (2,)), [1, [2]]),
        (Pair(1, "r"), [1, "r"]),
        (OrderedDict(b=1), {"b": 1}),
        (ChainMap({"a": 1}), {"a": 1}),
        (Label("tag"), "tag"),
        (Colour.RED, "red"),
        (Box(2, (None,)), {"size": 2, "_inside": [None]}),
        (Model(), {"name": "m", "when": "2026-01-02"}),
        (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a/b"), "/a/b"),
        (np.float32("nan"), None),
        (np.float64(0.5), 0.5),
        (np.int8(-3), -3),
        (np.bool_(True), True),
        (np.longdouble(1.5), 1.5),
        (np.str_("x"), "x"),
        (np.array(3), 3),
    ],
    ids=repr,
)
def test_a_plain_value_becomes_the_obvious_json(value, expected):
    """Also nested, where most of them are found."""
    assert decoded(value) == expected
    assert decoded({"at": [value]}) == {"at": [expected]}


def test_an_array_keeps_shape_and_type():
    """A view of another array too."""
    told = decoded(np.arange(6, dtype=np.int16).reshape(2, 3).T)
    assert (told["content_type"], told["dtype"], told["shape"]) == ("application/ndarray", "int16", [3, 2])
    assert array_of(told).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_bytes_become_a_data_url():
    """With their size, and readable by whoever reads images."""
    told = decoded(b"\x00\xff")
    assert (told["content_type"], told["size"]) == ("application/octet-stream", 2)
    assert bytes_of(told) == bytes_of(decoded(memoryview(b"\x00\xff"))) == b"\x00\xff"


def test_an_image_under_way_is_a_jpeg_as_fal_has_it():
    """The same fields, in fal's form."""
    told = decoded({"image": Image.new("RGB", (3, 2), "red")})["image"]
    assert {**told, "url": ""} == {
        "content_type": "image/jpeg",
        "width": 3,
        "height": 2,
        "data": None,
        "url": "",
    }
    assert image_of(told).format == "JPEG"


@pytest.mark.parametrize("image_format", IMAGE_MODES)
@pytest.mark.parametrize("mode", EVERY_MODE)
def test_an_image_of_any_mode_goes_into_any_format(mode, image_format):
    """fal's JPEG fails for RGBA and P."""
    told = decoded(Image.new(mode, (3, 2)), image_format=image_format)
    assert told["content_type"] == f"image/{image_format}"
    assert image_of(told).size == (3, 2)


def test_what_is_transparent_becomes_white_where_the_format_has_no_alpha():
    """And stays transparent where it has."""
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert min(image_of(decoded(clear)).getpixel((4, 4))) > 250
    assert image_of(decoded(clear, image_format="png")).getpixel((4, 4)) == (255, 0, 0, 0)
    assert image_of(decoded(clear, image_format="webp")).mode == "RGBA"


def test_a_better_quality_is_a_larger_image():
    """Final images use it."""
    noise = Image.effect_noise((64, 64), 90)
    assert len(encode(noise, quality=95)) > len(encode(noise, quality=60))


def test_an_unknown_image_format_is_refused():
    """Also where there is no image, so that it shows at once."""
    with pytest.raises(ValueError, match="jpeg, png, webp"):
        encode({}, "gif")


_loop: list[Any] = []
_loop.append({"again": _loop})
_deep: list[Any] = []
for _ in range(MAX_DEPTH + 10):
    _deep = [_deep]


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({"a": [1, 2, {"b": object()}]}, "$.a[2].b", "object has no JSON form"),
        ({"a": Box(1, {"x": {1, 2}})}, "$.a._inside.x", "set has no JSON form"),
        ({"a": Holder(thing=object())}, "$.a.thing", "object has no JSON form"),
        ([lambda: 0], "$[0]", "function has no JSON form"),
        ({"a": {1: 2}}, "$.a", "its key 1 is no text"),
        ({"a": [2**64]}, "$.a[0]", "64-bit"),
        ({"a": "\ud800"}, "$.a", "surrogates"),
        ({"a": {"\ud800": 1}}, "$.a", "surrogates"),
        (_loop, "$[0].again", "it contains itself"),
        ({"a": np.array([object()])}, "$.a", "ndarray has no JSON form"),
        ({"a": np.complex64(1)}, "$.a", "complex has no JSON form"),
        ({"a": datetime.timedelta(1)}, "$.a", "timedelta has no JSON form"),
        ((i for i in ()), "$", "generator has no JSON form"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_has_no_json_form_is_refused_with_its_path(value, path, reason):
    """The first such value, in the caller, as a TypeError."""
    with pytest.raises(NotEncodable, match=reason) as caught:
        encode(value)
    assert caught.value.path == path
    assert isinstance(caught.value, TypeError)


def test_nesting_past_what_json_readers_take_is_refused():
    """Not by a RecursionError."""
    with pytest.raises(NotEncodable, match="levels deep"):
        encode(_deep)


@pytest.mark.parametrize(
    "value",
    [["x" * 1000], np.zeros(1000), b"x" * 1000, {"a": [Image.effect_noise((99, 99), 9)]}],
)
def test_an_event_past_its_limit_is_refused(value):
    """With the sizes, and what to do."""
    with pytest.raises(EventTooLarge, match=r"more than the 900 .* in parts"):
        encode(value, max_bytes=900)


class Shelf:
    """Somewhere apart: remembers what it was given."""

    def __init__(self, max_inline_bytes: int = 1000) -> None:
        self.max_inline_bytes = max_inline_bytes
        self.held: dict[str, bytes] = {}
        self.is_full = False

    def put(self, name: str, data: bytes, **more: Any) -> dict[str, Any]:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.held[name] = data
        return {"url": name, **more}

    def put_tensor(self, value: Any) -> None:
        return None

    def take_back(self) -> None:
        self.held.clear()


def test_what_a_text_has_no_room_for_goes_apart():
    """In the order of the values: the small ones before it stay, and so does one that fits behind it."""
    shelf = Shelf()
    told = decoded({"a": b"x" * 300, "b": b"y" * 600, "c": b"z" * 300}, apart=shelf)
    assert [bytes_of(told[name]) for name in "ac"] == [b"x" * 300, b"z" * 300]
    assert (told["b"], shelf.held) == ({"url": "data.bin"}, {"data.bin": b"y" * 600})


def test_a_value_larger_than_any_event_goes_apart():
    """Its size is not held against the event, plain text is."""
    shelf = Shelf()
    told = decoded([np.zeros((1000, 2))], apart=shelf, max_bytes=900)
    assert told == [{"url": "array.npy", "shape": [1000, 2], "dtype": "float64"}]
    assert np.load(io.BytesIO(shelf.held["array.npy"]), allow_pickle=False).shape == (1000, 2)
    with pytest.raises(EventTooLarge):
        encode([np.zeros(1000), "x" * 900], apart=shelf, max_bytes=900)
    assert shelf.held == {}


def test_what_was_put_apart_is_taken_back_when_the_event_is_refused():
    """And the path is that of the culprit, not of what was large."""
    shelf = Shelf()
    with pytest.raises(NotEncodable) as caught:
        encode({"a": b"x" * 2000, "b": [object()]}, apart=shelf, max_bytes=900)
    assert (caught.value.path, shelf.held) == ("$.b[0]", {})


def test_no_room_anywhere_is_an_error_of_the_disk():
    """Not of the value: the job ends as storage_full."""
    shelf = Shelf()
    shelf.is_full = True
    with pytest.raises(OSError) as caught:
        encode(b"x" * 2000, apart=shelf)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    "value",
    [
        {"step": 3, "loss": 0.5, "none": None, "deep": [{"a": True}]},
        {"nan": float("nan"), "when": datetime.date(2026, 1, 2), "id": uuid.UUID(int=3)},
        {"image": Image.new("RGB", (8, 8))},
        {"number": np.float32(0.5)},
        {"array": np.zeros(2), "tuple": (1, 2), "path": PurePosixPath("/x")},
        {"bytes": b"x"},
        Box(1, Colour.RED),
    ],
)
def test_a_plain_event_is_encoded_as_any_other(value):
    """Where there is a short way, it leads to the same text."""
    assert plain(value) in (encode(value), None)


def test_only_what_orjson_knows_all_of_is_plain():
    assert plain({"step": 3, "names": ("a", "b")}) == b'{"step":3,"names":["a","b"]}'
    assert plain({"x": b"y"}) is plain([np.float64(1)]) is plain({1: 2}) is plain("\ud800") is None
    assert plain("x" * MAX_EVENT_BYTES) is None
    assert plain(1, "bmp") is None


def whole(event: bytes | Draft) -> Any:
    return json.loads(event.finish() if isinstance(event, Draft) else event)


def test_what_takes_long_is_left_to_finish_and_shows_the_moment_of_its_call():
    """In its place among the rest, which is encoded at once; it is the same text in the end."""
    image, array = Image.new("RGB", (100, 80), "red"), np.arange(20_000.0)
    value = {"a": b"x", "image": image, "list": [array, image, {"n": 1}], "b": b"y"}
    expected = json.loads(encode(value))
    event = draft(value)
    assert isinstance(event, Draft)
    assert event.size > 2 * 100 * 80 * 3 + array.nbytes
    image.paste("blue", (0, 0, 100, 80))
    array[:] = 0
    value["list"].clear()
    assert whole(event) == expected


@pytest.mark.parametrize("value", [1, {"a": [b"x" * 100_000]}, Image.new("L", (64, 64)), np.zeros(10)])
def test_what_takes_no_time_is_whole_at_once(value):
    assert draft(value) == encode(value)


def test_no_more_is_copied_than_may_be_left():
    """What does not fit is encoded at once, in its place; also where it will go apart."""
    image, small = Image.new("RGB", (200, 100), "red"), Image.new("RGB", (100, 80), "blue")
    value = [image, small, image]
    event = draft(value, max_held_bytes=30_000)
    assert isinstance(event, Draft)
    assert event.size < 30_000 + 2 * len(encode(image))
    assert whole(event) == json.loads(encode(value))
    assert draft(np.zeros(100_000), max_held_bytes=1000) == encode(np.zeros(100_000))
    shelf = Shelf()
    assert isinstance(draft(np.zeros(100_000), apart=shelf, max_held_bytes=1000), bytes)
    assert shelf.held.keys() == {"array.npy"}


def test_a_draft_that_nobody_wants_leaves_nothing_apart():
    shelf = Shelf()
    event = draft(np.zeros(100_000), apart=shelf)
    assert isinstance(event, Draft)
    event.finish()
    event.drop()
    assert shelf.held == {}


def test_a_draft_without_a_json_form_is_refused_at_once():
    with pytest.raises(NotEncodable) as caught:
        draft({"image": Image.new("RGB", (100, 80)), "bad": [object()]})
    assert caught.value.path == "$.bad[0]"
    with pytest.raises(ValueError, match="jpeg, png, webp"):
        draft(Image.new("RGB", (100, 80)), "bmp")
    with pytest.raises(EventTooLarge):
        draft(np.zeros(2_000_000))


def test_a_draft_that_turns_out_too_large_is_refused_when_it_is_finished():
    """What it had put apart goes."""
    noise = Image.fromarray(np.random.default_rng(3).integers(0, 256, (1500, 1500, 3), dtype=np.uint8))
    event = draft([noise, noise], "png")
    assert isinstance(event, Draft)
    with pytest.raises(EventTooLarge):
        event.finish()
    shelf = Shelf()
    event = draft({"large": np.zeros(20_000), "image": Image.new("RGB", (100, 80))}, apart=shelf)
    assert shelf.held == {}
    assert whole(event)["large"]["url"] == "array.npy"
    assert shelf.held.keys() == {"array.npy", "image.jpeg"}
    shelf.is_full = True
    event = draft({"large": np.zeros(20_000)}, apart=shelf)
    assert isinstance(event, Draft)
    with pytest.raises(OSError, match="No space"):
        event.finish()


def test_an_event_is_one_line():
    """A raw newline or tab would break the frames that carry it (event.py)."""
    data = encode({"a\tb": "c\nd\r\u2028"})
    assert not {b"\n", b"\r", b"\t"} & {bytes([byte]) for byte in data}


def test_an_event_shows_the_moment_of_its_call():
    """Changing the value afterwards changes nothing."""
    value: dict[str, Any] = {"t": np.zeros(2), "l": [1]}
    data = encode(value)
    value["t"] += 1
    value["l"].append(2)
    assert array_of(json.loads(data)["t"]).tolist() == [0, 0]
    assert json.loads(data)["l"] == [1]


def test_a_class_that_is_only_named_like_an_image_is_no_image():
    """Types decide; fal goes by the class's name, and breaks."""

    class Image:
        pass

    with pytest.raises(NotEncodable, match="Image has no JSON form"):
        encode(Image())


_numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    st.none() | st.booleans() | _numbers | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_json)
def test_json_survives_unchanged(value):
    """Whatever JSON can say, also what looks like one of our own objects."""
    assert orjson.loads(encode(value)) == value


@given(st.dictionaries(st.text(), st.floats() | st.binary(max_size=9) | st.tuples(st.integers(0, 9))))
def test_whatever_is_accepted_is_json(value):
    """Strictly: no NaN, no Infinity."""

    def refuse(token: str) -> None:
        raise AssertionError(token)

    json.loads(encode(value), parse_constant=refuse)
