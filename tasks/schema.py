"""Step 1. Inputs against a task's JSON Schema (draft 2020-12), with every fault told at once.

Pure: knows neither Redis nor HTTP. A `Validator` is made once per schema and is then safe to use
from any thread. Nothing is ever fetched: a schema may only refer to its own parts.
"""

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from itertools import islice
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing.jsonschema import EMPTY_REGISTRY

from rankcast.tasks.errors import Fault, InvalidInput

#: An input with a million wrong items is told about these; the rest would only fill the answer.
MAX_FAULTS = 50
#: Longest piece of the input that a message repeats.
MAX_SHOWN = 60
#: Keywords whose value is data, where a `$ref` is a word like any other.
_DATA = frozenset({"const", "default", "enum", "examples"})
_REFERENCES = frozenset({"$ref", "$dynamicRef"})


class Validator:
    """One compiled schema. ValueError if it is none, or refers to anything outside itself."""

    def __init__(self, schema: dict[str, Any]) -> None:
        for reference in _references(schema):
            if not reference.startswith("#"):
                raise ValueError(
                    f"the schema refers to {reference!r}; only its own parts (#/...) may be used"
                )
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as fault:
            raise ValueError(f"not a JSON Schema: at {fault.json_path}: {fault.message}") from None
        # An empty registry has nothing to look others up in and no way to retrieve them.
        self._validator = Draft202012Validator(schema, registry=EMPTY_REGISTRY)

    def check(self, value: Any) -> None:
        """Accept a parsed JSON value; InvalidInput with every fault (the first 50) otherwise."""
        try:
            faults = list(islice(self._faults(value), MAX_FAULTS))
        except RecursionError:
            faults = [Fault("$", "is nested too deeply")]
        if faults:
            raise InvalidInput(faults)

    def _faults(self, value: Any) -> Iterator[Fault]:
        seen: set[Fault] = set()
        for error in self._validator.iter_errors(value):
            # The standard's `required` reports each missing field on its own, without naming it.
            for fault in _explain(error):
                if fault not in seen:
                    seen.add(fault)
                    yield fault


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from _references(item)
    if isinstance(schema, dict):
        for key, item in schema.items():
            if key in _REFERENCES and isinstance(item, str):
                yield item
            elif key not in _DATA:
                yield from _references(item)


class _Broken(NamedTuple):
    """One broken keyword: where, what the schema wants there, what it found, and the schema around it."""

    path: str
    wanted: Any
    found: Any
    schema: Any


def _explain(error: ValidationError) -> list[Fault]:
    if error.validator in ("anyOf", "oneOf") and error.context:
        return _explain_choice(error)
    explain = _EXPLAIN.get(str(error.validator))
    if explain is None:
        return _as_told(error)
    return explain(_Broken(error.json_path, error.validator_value, error.instance, error.schema))


def _as_told(error: ValidationError) -> list[Fault]:
    return [Fault(error.json_path, _clip(error.message, 4 * MAX_SHOWN))]


def _explain_choice(error: ValidationError) -> list[Fault]:
    """One fault instead of one per branch: `int | None` is a choice of two types."""
    if all(branch.validator == "type" and not branch.path for branch in error.context):
        kinds = " or ".join(_type_names(branch.validator_value) for branch in error.context)
        return [Fault(error.json_path, f"must be {kinds}, not {_shown(error.instance)}")]
    closest = best_match([error])
    return _as_told(error) if closest is None or closest is error else _explain(closest)


def _missing(broken: _Broken) -> list[Fault]:
    absent = [name for name in broken.wanted if name not in broken.found]
    return [Fault(_member(broken.path, name), "is required") for name in absent]


def _unknown(broken: _Broken) -> list[Fault]:
    known = list(broken.schema.get("properties", {}))
    patterns = broken.schema.get("patternProperties", {})
    extra = [
        name
        for name in broken.found
        if name not in known and not any(re.search(pattern, name) for pattern in patterns)
    ]
    return [Fault(_member(broken.path, _clip(name)), _unknown_message(name, known)) for name in extra]


def _unknown_message(name: str, known: list[str]) -> str:
    if near := get_close_matches(name, known, n=1):
        return f"is not a field of this task; did you mean {near[0]!r}?"
    if not known:
        return "is not a field of this task, which takes none"
    return f"is not a field of this task; it takes {_clip(', '.join(known), 4 * MAX_SHOWN)}"


def _wrong_type(broken: _Broken) -> list[Fault]:
    return [Fault(broken.path, f"must be {_type_names(broken.wanted)}, not {_shown(broken.found)}")]


def _bound(words: str) -> Callable[[_Broken], list[Fault]]:
    def explain(broken: _Broken) -> list[Fault]:
        return [Fault(broken.path, f"must be {words} {broken.wanted}, not {_shown(broken.found)}")]

    return explain


def _size(words: str, unit: str) -> Callable[[_Broken], list[Fault]]:
    def explain(broken: _Broken) -> list[Fault]:
        return [Fault(broken.path, f"must have {words} {broken.wanted} {unit}, and has {len(broken.found)}")]

    return explain


def _not_listed(broken: _Broken) -> list[Fault]:
    choices = _clip(", ".join(repr(choice) for choice in broken.wanted), 4 * MAX_SHOWN)
    return [Fault(broken.path, f"must be one of {choices}, not {_shown(broken.found)}")]


_EXPLAIN: dict[str, Callable[[_Broken], list[Fault]]] = {
    "additionalProperties": _unknown,
    "enum": _not_listed,
    "exclusiveMaximum": _bound("less than"),
    "exclusiveMinimum": _bound("more than"),
    "maximum": _bound("at most"),
    "maxItems": _size("at most", "items"),
    "maxLength": _size("at most", "characters"),
    "minimum": _bound("at least"),
    "minItems": _size("at least", "items"),
    "minLength": _size("at least", "characters"),
    "multipleOf": _bound("a multiple of"),
    "required": _missing,
    "type": _wrong_type,
}

_ARTICLES = {
    "array": "an array",
    "boolean": "true or false",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}


def _type_names(wanted: Any) -> str:
    return " or ".join(_ARTICLES[name] for name in ([wanted] if isinstance(wanted, str) else wanted))


def _shown(value: Any) -> str:
    """A value as a message repeats it: containers by kind, scalars by value."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return _clip(str(value))
        case str():
            return f"the string {_clip(value)!r}"
        case list():
            return "an array"
        case _:
            return "an object"


def _clip(text: str, max_length: int = MAX_SHOWN) -> str:
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


def _member(path: str, name: str) -> str:
    """JSONPath of a member (RFC 9535, section 2.5): the short form where the name allows it."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII):
        return f"{path}.{name}"
    return f"{path}[{name!r}]"
