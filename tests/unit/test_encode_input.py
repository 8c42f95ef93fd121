"""An input becomes JSON text, or it is said which value cannot."""

import math
from typing import Any

import pytest

from rankcast.tasks.errors import Fault, InvalidInput
from rankcast.tasks.submit import encode_input


def test_an_input_is_stored_as_json_text():
    """Tuples are arrays; text is UTF-8, not escapes."""
    assert encode_input({"a": (1, 2.5, None), "b": "schön"}) == '{"a":[1,2.5,null],"b":"schön"}'.encode()


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ({"a": [0.0, math.nan]}, "$.a[1]", "nan has no JSON form"),
        ({"a": -math.inf}, "$.a", "-inf has no JSON form"),
        ({"seed": 2**70}, "$.seed", "more than 64 bits"),
        ({"prompt": "half \ud83d"}, "$.prompt", "half a surrogate pair"),
        ({"a": {1: 2}}, "$.a", "has the key 1, and keys are strings"),
        ({"a": object()}, "$", "not JSON serializable"),
    ],
)
def test_a_value_without_a_json_form_is_refused_with_its_path(value: Any, path: str, words: str):
    """Above all NaN, which would otherwise arrive as null."""
    with pytest.raises(InvalidInput) as caught:
        encode_input(value)
    [fault] = caught.value.faults
    assert fault.path == path
    assert words in fault.message


def test_an_input_that_holds_itself_is_refused():
    """It ends, and as a fault of the input."""
    value: dict[str, Any] = {}
    value["again"] = value
    with pytest.raises(InvalidInput) as caught:
        encode_input(value)
    assert caught.value.faults == (Fault("$", "Recursion limit reached"),)
