"""An input is checked against its task's schema, and every fault says where and what to do."""

from typing import Any

import pytest

from rankcast.tasks.errors import Fault, InvalidInput
from rankcast.tasks.schema import MAX_FAULTS, Validator

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "prompt": {"type": "string", "minLength": 1},
        "steps": {"type": "integer", "minimum": 1, "maximum": 1000},
        "seed": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "mode": {"enum": ["fast", "good"]},
        "size": {"$ref": "#/$defs/Size"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
    },
    "required": ["prompt", "steps"],
    "additionalProperties": False,
    "$defs": {
        "Size": {
            "type": "object",
            "properties": {"width": {"type": "integer"}, "height": {"type": "integer"}},
            "required": ["width", "height"],
            "additionalProperties": False,
        }
    },
}


def faults_of(value: Any, schema: dict[str, Any] = SCHEMA) -> list[Fault]:
    with pytest.raises(InvalidInput) as caught:
        Validator(schema).check(value)
    return sorted(caught.value.faults)


def test_an_input_that_fits_is_accepted():
    """Local references, unions and optional fields all work."""
    Validator(SCHEMA).check(
        {
            "prompt": "a",
            "steps": 3,
            "seed": None,
            "mode": "good",
            "size": {"width": 1, "height": 2},
            "tags": [],
        }
    )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"steps": "many"}, Fault("$.steps", "must be an integer, not the string 'many'")),
        ({"steps": 0}, Fault("$.steps", "must be at least 1, not 0")),
        ({"steps": 1001}, Fault("$.steps", "must be at most 1000, not 1001")),
        ({"steps": 1.5}, Fault("$.steps", "must be an integer, not 1.5")),
        ({"prompt": ""}, Fault("$.prompt", "must have at least 1 characters, and has 0")),
        ({"seed": "x"}, Fault("$.seed", "must be an integer or null, not the string 'x'")),
        ({"mode": "best"}, Fault("$.mode", "must be one of 'fast', 'good', not the string 'best'")),
        ({"size": {"width": 1}}, Fault("$.size.height", "is required")),
        ({"tags": ["a", 3]}, Fault("$.tags[1]", "must be a string, not 3")),
        ({"tags": ["a"] * 4}, Fault("$.tags", "must have at most 3 items, and has 4")),
        ({"stesp": 5}, Fault("$.stesp", "is not a field of this task; did you mean 'steps'?")),
        (
            {"colour": 1},
            Fault("$.colour", "is not a field of this task; it takes prompt, steps, seed, mode, size, tags"),
        ),
        (
            {"a b": 1},
            Fault("$['a b']", "is not a field of this task; it takes prompt, steps, seed, mode, size, tags"),
        ),
    ],
)
def test_a_fault_says_where_and_what_to_do(change: dict[str, Any], fault: Fault):
    """The path is JSONPath; an unknown field is named, with the nearest known one."""
    assert faults_of({"prompt": "a", "steps": 3, **change}) == [fault]


def test_every_fault_is_told_at_once():
    """Nobody has to submit once per mistake, and each missing field is named."""
    assert [fault.path for fault in faults_of({"seed": 1.5, "nope": 1})] == [
        "$.nope",
        "$.prompt",
        "$.seed",
        "$.steps",
    ]


def test_true_is_not_an_integer():
    """Python's bool is an int; JSON's is not."""
    assert faults_of({"prompt": "a", "steps": True}) == [Fault("$.steps", "must be an integer, not true")]


def test_an_input_that_is_no_object_is_refused_at_the_root():
    """A bare string or list never reaches a rank."""
    assert faults_of(["prompt"]) == [Fault("$", "must be an object, not an array")]


def test_a_long_value_is_not_repeated_in_full():
    """An error answer stays small, whatever was sent."""
    [fault] = faults_of({"prompt": "a", "steps": "x" * 100_000})
    assert len(fault.message) < 200


def test_the_number_of_faults_is_bounded():
    """A million wrong items give a bounded answer."""
    schema = {"type": "array", "items": {"type": "string"}}
    assert len(faults_of(list(range(10_000)), schema)) == MAX_FAULTS


def test_a_recursive_schema_meets_a_deep_input_without_falling_over():
    """Depth is the sender's to choose; it ends in a fault, not in a RecursionError."""
    schema: dict[str, Any] = {"type": "array", "items": {"$ref": "#"}}
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    assert faults_of(deep, schema) == [Fault("$", "is nested too deeply")]


@pytest.mark.parametrize("reference", ["http://127.0.0.1:1/schema.json", "file:///etc/passwd", "other.json"])
def test_nothing_outside_the_schema_is_ever_fetched(reference: str):
    """A schema that points elsewhere is refused when it is compiled."""
    with pytest.raises(ValueError, match="only its own parts"):
        Validator({"properties": {"a": {"$ref": reference}}})


def test_a_reference_inside_data_is_only_data():
    """`default` and `enum` may hold any JSON."""
    Validator({"properties": {"a": {"default": {"$ref": "http://x"}}}}).check({"a": 1})


def test_what_is_no_schema_is_refused_with_its_place():
    """A worker that offers nonsense hears where the nonsense is."""
    with pytest.raises(ValueError, match=r"\$\.properties\.a\.type"):
        Validator({"properties": {"a": {"type": "whole"}}})
