"""Files in inputs and outputs of fal's clients: paths here, URLs there."""

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rankcast.tasks.artifacts import stored_name, url_of
from rankcast.tasks.uploads import file_url
from rankcast.web.fal.urls import absolute, all_absolute, all_relative, relative
from rankcast.web.tokens import Purpose

ID, BASE = "0123456789abcdef" * 2, "https://example.com:8700/rankcast"
FILE = file_url(ID, "cat-1.png")
ARTIFACT = url_of(ID, stored_name(17, 2, "out.safetensors"))
BASES = ("other.example", BASE.removeprefix("https://"))


def sign(purpose: Purpose, subject: str) -> str:
    return f"{purpose.name}-of-{subject[:4]}"


def unsigned(purpose: Purpose, subject: str) -> str:
    return ""


def test_a_path_has_a_token_for_what_it_names() -> None:
    assert absolute(FILE, BASE, sign) == f"{BASE}{FILE}?token=file-of-0123"
    assert absolute(ARTIFACT, BASE, sign) == f"{BASE}{ARTIFACT}?token=artifact-of-0123"
    with pytest.raises(ValueError):
        absolute("/jobs", BASE, sign)


@pytest.mark.parametrize("path", [FILE, ARTIFACT])
def test_what_a_client_was_given_comes_back_as_the_path(path: str) -> None:
    """With its token or without, and whichever scheme the server sees."""
    assert relative(absolute(path, BASE, sign), BASES) == path
    assert relative(absolute(path, BASE, unsigned), BASES) == path
    assert relative(f"http://other.example{path}", BASES) == path


@pytest.mark.parametrize(
    "url",
    [
        f"https://example.com{FILE}",
        f"https://example.com:8700{FILE}",
        f"https://other.example.evil{FILE}",
        f"https://other.example@evil{FILE}",
        f"https://evil/?https://other.example{FILE}",
        f"ftp://other.example{FILE}",
        f"https://other.example{FILE}/more",
        f"https://other.example{FILE}?page=2",
        f"https://other.example{FILE}#part",
        f"https://other.example/x{FILE}",
        f"https://other.example/files/{ID}/../../jobs",
        f"https://other.example/files/{ID}/.about",
        f"see https://other.example{FILE}",
        "https://other.example/jobs",
        "data:image/png;base64,AAAA",
        FILE,
        "",
    ],
)
def test_any_other_text_stays_as_it_is(url: str) -> None:
    assert relative(url, BASES) == url


def test_urls_are_found_however_deep_they_lie() -> None:
    url = f"{BASE}{FILE}?token=a.b-c_d"
    deep: Any = url
    for _ in range(3000):
        deep = [deep]
    job_input = {"image": {"url": url, "n": 1}, "images": [url, None, "x", [url]], "deep": deep, url: url}
    all_relative(job_input, BASES)
    for _ in range(3000):
        deep = deep[0]
    assert (deep, job_input.pop("deep") is not None) == (FILE, True)
    assert job_input == {"image": {"url": FILE, "n": 1}, "images": [FILE, None, "x", [FILE]], url: FILE}


def test_a_reference_in_an_output_is_a_url() -> None:
    found = orjson.loads(all_absolute(orjson.dumps({"url": ARTIFACT, "file_size": 2**53}), BASE, sign))
    assert found == {"url": f"{BASE}{ARTIFACT}?token=artifact-of-0123", "file_size": 2**53}


def test_a_text_without_files_is_not_even_copied() -> None:
    text = b'{"prompt":"see /files/ and /jobs/"}'
    assert all_absolute(text, BASE, sign) is text


def turned(value: Any) -> Any:
    """The same by parsing."""
    match value:
        case dict():
            return {name: turned(inner) for name, inner in value.items()}
        case list():
            return [turned(inner) for inner in value]
        case str() if value in (FILE, ARTIFACT):
            return absolute(value, BASE, sign)
    return value


#: Pieces of which texts are made that could be taken for a path; none goes on with a name.
PIECES = st.sampled_from([FILE, ARTIFACT, '"', "\\", '\\"', ":", ",", " ", "/files/", "é", "\n", "!"])
TEXTS = st.one_of(PIECES, st.lists(PIECES, max_size=4).map("".join))
VALUES = st.recursive(
    st.one_of(TEXTS, st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


@example([f'"{FILE}', f'{FILE}"', f'"{FILE}"', f"\\{FILE}", f'\\"{FILE}'], None)
@example({FILE: FILE, f'"{FILE}': {ARTIFACT: 1}}, orjson.OPT_INDENT_2)
@given(VALUES, st.sampled_from([None, orjson.OPT_INDENT_2]))
def test_whole_strings_are_turned_and_nothing_else(value: Any, option: int | None) -> None:
    """Not within a string, however it is quoted, and no name of a member."""
    assert orjson.loads(all_absolute(orjson.dumps(value, option=option), BASE, sign)) == turned(value)
