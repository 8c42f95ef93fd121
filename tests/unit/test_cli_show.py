"""What a job tells, made readable on a terminal."""

import pytest

from rankcast.cli.show import clean, fields, one_line, pretty, reading, shorten

IMAGE = {
    "content_type": "image/jpeg",
    "width": 64,
    "height": 48,
    "data": None,
    "url": "data:image/jpeg;base64," + "A" * 4000,
}


@pytest.mark.parametrize(
    ("data", "fraction", "label"),
    [
        ({"progress": 0.05}, 0.05, ""),
        ({"progress": 1}, 1.0, ""),
        ({"progress": 40}, 0.4, ""),
        ({"progress": "10/250"}, 0.04, "10/250"),
        ({"step": 3, "total": 20}, 0.15, "step 3/20"),
        ({"step": 3, "total": 20, "progress": 0.9}, 0.15, "step 3/20"),
        ({"step": 3, "progress": 0.5}, 0.5, "step 3"),
        ({"progress": 250}, 1.0, ""),
        ({"progress": -1}, 0.0, ""),
    ],
)
def test_progress_is_read_in_the_forms_that_tasks_use(data, fraction, label):
    """A fraction, percent, `a/b`, or step and total; always a bar between empty and full."""
    found = reading(data)
    assert found is not None
    assert (found.fraction, found.label) == (pytest.approx(fraction), label)


@pytest.mark.parametrize(
    "data",
    [{}, [], "x", None, {"progress": "soon"}, {"progress": True}, {"step": 1}, {"step": 1, "total": 0}],
)
def test_what_says_nothing_of_progress_makes_no_bar(data):
    """An event may hold anything."""
    assert reading(data) is None


def test_the_other_fields_stand_beside_the_bar_and_images_as_their_size():
    """A preview is megabytes of base64; a terminal shows that it is there."""
    told = fields({"step": 1, "total": 2, "loss": 0.123456, "preview": IMAGE, "eta": None})
    assert told == "loss=0.1235 preview=<image/jpeg 64×48, 3.0 kB> eta=null"


def test_control_characters_from_a_job_do_not_reach_the_terminal():
    """Whoever may submit a job must not drive the screen of who watches it."""
    assert clean("\x1b[2Jgone\r\n\x9b31m") == "\\x1b[2Jgone\\x0d\\x0a\\x9b31m"
    assert "\x1b" not in one_line({"a": "\x1b]0;title\x07"})
    assert "\x1b" not in fields({"\x1b[2J": 1})
    assert pretty({"a": ["\x1b"]}).count("\n") == 4


def test_data_uris_are_cut_wherever_they_are_and_nothing_else_is():
    """The output is shown whole, but for bytes that nobody reads."""
    output = {"images": [IMAGE], "prompt": "p" * 300, "small": "data:,x"}
    cut = shorten(output)
    assert cut["images"][0]["url"] == "data:image/jpeg;base64,… (3.0 kB)"
    assert (cut["prompt"], cut["small"]) == (output["prompt"], output["small"])
