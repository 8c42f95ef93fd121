"""Unit tests are many and quick; looking through all processes for each of them would double their time."""

from collections.abc import Iterator

import pytest
from helpers import leaving_no_process


@pytest.fixture(autouse=True, scope="module")
def no_process_is_left() -> Iterator[None]:
    """As for every test, but once a module."""
    with leaving_no_process():
        yield
