"""Which part of an output goes into a file."""

from typing import Any

import pytest

from rankcast.cli.parts import part, parts, to_be_kept

IMAGE = {"content_type": "image/png", "data": None, "url": "data:image/png;base64,AAEC"}
STORED = {"content_type": "application/x-npy", "url": "/jobs/1/artifacts/a.npy", "file_name": "a.npy"}
OUTPUT = {"images": [IMAGE, IMAGE], "grid": STORED, "labels": [1, {"odd name": 2}], "seed": 7}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", OUTPUT),
        ("images[1]", IMAGE),
        ("$.images[1]", IMAGE),
        ("grid", STORED),
        ("labels[1].odd name", 2),
        ("seed", 7),
    ],
)
def test_a_part_is_named_as_errors_name_it(path, value):
    assert part(OUTPUT, path) == value


def test_items_of_a_list_need_no_dollar():
    assert part([3, 4], "[1]") == part([3, 4], "$[1]") == 4


@pytest.mark.parametrize("path", ["image", "images[2]", "grid.url", "", "labels[-1]"])
def test_a_part_that_is_not_there_comes_with_those_that_are(path):
    """What is inside a file's object is none."""
    with pytest.raises(ValueError, match=r"it has \$, \$.images, \$.images\[0\]"):
        part(OUTPUT, path)


def test_of_a_long_output_only_some_parts_are_named():
    with pytest.raises(ValueError) as refused:
        part(list(range(100_000)), "x")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("output", "kept"),
    [
        (IMAGE, IMAGE),
        ({"seed": 1, "image": IMAGE}, IMAGE),
        ([[STORED]], STORED),
        ({"seed": 1}, {"seed": 1}),
        ({"url": "x", "content_type": 3}, {"url": "x", "content_type": 3}),
        (None, None),
    ],
)
def test_the_one_file_of_an_output_is_what_is_kept_else_all_of_it(output: Any, kept: Any):
    assert to_be_kept(output) == kept


def test_of_several_files_somebody_has_to_choose():
    """With the words that choose."""
    with pytest.raises(ValueError, match=r"--at: \$.images\[0\], \$.images\[1\], \$.grid"):
        to_be_kept(OUTPUT)


def test_every_part_is_there_once():
    assert [path for path, _ in parts({"a": [IMAGE], "b": {}})] == ["$", "$.a", "$.a[0]", "$.b"]
