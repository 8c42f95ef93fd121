"""What is typed on the command line, as a task's input.  Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

JSON_TYPES: Mapping[type, frozenset[str]] = {
    bool: frozenset({"boolean"}),
    int: frozenset({"integer", "number"}),
    float: frozenset({"number"}),
    str: frozenset({"string"}),
    list: frozenset({"array"}),
    dict: frozenset({"object"}),
    type(None): frozenset({"null"}),
}


def parse_pairs(pairs: Sequence[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """`key=value` arguments as an input object.

    A value is JSON if it parses as that, else a string; where the schema wants a string and would
    not take what it parsed to, it stays one (`prompt=42`). ValueError for what is no pair.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"{pair!r} is not key=value")
        if key in values:
            raise ValueError(f"{key} is given twice")
        values[key] = _value(text, schema.get("properties", {}).get(key, {}), schema)
    return values


def _value(text: str, wanted: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    types = set(_types(wanted, schema))
    return text if "string" in types and not types & JSON_TYPES[type(value)] else value


def _types(wanted: Any, schema: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """The JSON types that a schema allows, as far as it names them."""
    if not isinstance(wanted, Mapping) or depth > 8:
        return
    named = wanted.get("type", ())
    yield from [named] if isinstance(named, str) else named
    for constant in [*wanted.get("enum", ()), *([wanted["const"]] if "const" in wanted else [])]:
        yield from JSON_TYPES[type(constant)]
    for word in ("anyOf", "oneOf", "allOf"):
        for part in wanted.get(word, ()):
            yield from _types(part, schema, depth + 1)
    if (name := str(wanted.get("$ref", ""))).startswith("#/$defs/"):
        yield from _types(schema.get("$defs", {}).get(name.removeprefix("#/$defs/")), schema, depth + 1)
