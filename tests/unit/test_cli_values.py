"""`key=value` on the command line, as a task's input."""

import pytest

from rankcast.cli.values import parse_pairs

SCHEMA = {
    "properties": {
        "prompt": {"type": "string"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "steps": {"type": "integer"},
        "either": {"type": ["string", "integer"]},
        "mode": {"$ref": "#/$defs/Mode"},
        "level": {"enum": ["1", "2"]},
    },
    "$defs": {"Mode": {"type": "string", "enum": ["fast", "7"]}},
}


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("steps=20", 20),
        ("scale=0.5", 0.5),
        ("is_wide=true", True),
        ("seed=null", None),
        ("sizes=[64, 128]", [64, 128]),
        ('extra={"a": 1}', {"a": 1}),
        ("prompt=A sunset", "A sunset"),
        ("prompt=a=b", "a=b"),
        ("prompt=", ""),
        ("unknown=x", "x"),
    ],
)
def test_a_value_is_json_if_it_parses_and_else_a_string(pair, value):
    """Numbers, lists and objects need no quoting; words neither."""
    assert parse_pairs([pair], SCHEMA) == {pair.partition("=")[0]: value}


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("prompt=42", "42"),
        ("prompt=true", "true"),
        ('prompt="quoted"', "quoted"),
        ("note=42", "42"),
        ("note=null", None),
        ("either=42", 42),
        ("mode=7", "7"),
        ("level=2", "2"),
        ("steps=many", "many"),
    ],
)
def test_a_string_stays_one_where_the_schema_wants_one(pair, value):
    """`prompt=42` is a prompt; the schema decides, and the server still judges what is wrong."""
    assert parse_pairs([pair], SCHEMA) == {pair.partition("=")[0]: value}


@pytest.mark.parametrize("pairs", [["steps"], ["=1"], ["a=1", "a=2"]])
def test_what_is_no_pair_is_refused(pairs):
    """A forgotten `=` must not become a job with another input."""
    with pytest.raises(ValueError):
        parse_pairs(pairs, {})
