"""One worker a module, so that tests begin on a warm host; `worker()` starts others."""

from collections.abc import Iterator

import pytest
from helpers import inconsistencies
from workers import Site


@pytest.fixture(autouse=True)
def no_process_is_left() -> None:
    """Ranks outlive a test here on purpose: `workers.worker` looks for what its worker left behind."""


@pytest.fixture(scope="module")
def site(valkey_url: str) -> Iterator[Site]:
    """An empty Redis for the module; what its jobs left there must agree with itself."""
    site = Site(valkey_url)
    site.redis.flushall()
    yield site
    assert inconsistencies(site.redis) == []
    site.redis.flushall()
    site.close()
