"""The fixture that pytest finds wherever Rankcast is installed. Imports nothing until a test asks for it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rankcast.testing import System


@pytest.fixture(scope="session")
def rankcast_system() -> Iterator[Callable[..., "System"]]:
    """`rankcast_system("steps.py", slots=1)`: a system that serves this file, as `rankcast.testing.system`
    starts it. The same call gives the same one; all of them end with the session."""
    # Here and not on top: torch, Celery and Flask are nothing for every test session.
    from rankcast.testing import system  # noqa: PLC0415

    with ExitStack() as systems:
        yield cache(lambda *tasks, **options: systems.enter_context(system(*tasks, **options)))
