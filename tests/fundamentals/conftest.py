"""One `rankcast up` for the whole tutorial."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Up

from rankcast import Client

TUTORIAL = Path(__file__).with_name("tutorial.py")


@pytest.fixture(scope="session")
def up() -> Iterator[Up]:
    with Up("--tasks", TUTORIAL) as up:
        up.says("rankcast is up")
        yield up
        assert up.stop() == 0, up.told
        assert up.left == []


@pytest.fixture(scope="session")
def client(up: Up) -> Iterator[Client]:
    with Client(up.url) as client:
        yield client


@pytest.fixture(autouse=True)
def no_process_is_left() -> None:
    """Groups stay warm from one test to the next; `up` checks at the end that nothing is left."""
