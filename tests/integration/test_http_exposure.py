"""gunicorn by hand: it does not begin to serve whom nobody asked for a key."""

from pathlib import Path

import httpx
import pytest
import redis as redis_py
from api_keys import give
from web_tier import WebTier, web_tier


def refusal(web: WebTier, capfd: pytest.CaptureFixture[str]) -> str:
    """The one line with which it ends, before any worker of it has begun."""
    assert web.process.wait(30) == 1
    web.stop()
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("[")]
    [line] = [line for line in lines if "Redis" not in line]
    return line


def test_others_reach_no_server_without_keys(
    valkey_url: str, redis: redis_py.Redis, capfd: pytest.CaptureFixture[str]
):
    """Unless that is meant: whatever started it, however it was bound."""
    line = refusal(WebTier(valkey_url, host="0.0.0.0"), capfd)
    assert line.startswith("rankcast: 0.0.0.0 can be reached by others")
    assert "RANKCAST_KEYS" in line
    assert "RANKCAST_OPEN=1" in line
    with web_tier(valkey_url, host="0.0.0.0", RANKCAST_OPEN="1") as web:
        assert httpx.get(f"{web.url}/tasks").status_code == 200


def test_with_keys_it_may_be_reached(valkey_url: str, redis: redis_py.Redis, tmp_path: Path):
    alice = give(tmp_path / "keys", "alice")
    with web_tier(valkey_url, host="0.0.0.0", RANKCAST_KEYS=str(tmp_path / "keys")) as web:
        assert httpx.get(f"{web.url}/tasks").status_code == 401
        assert httpx.get(f"{web.url}/tasks", headers=alice.headers).status_code == 200


def test_keys_that_cannot_be_read_are_told_in_a_line(
    valkey_url: str, redis: redis_py.Redis, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    """A name that is misspelt must not make an open server."""
    path = tmp_path / "keys"
    line = refusal(WebTier(valkey_url, RANKCAST_KEYS=str(path)), capfd)
    assert (
        line
        == f"rankcast: there is no file of keys at {path}: rankcast keys create NAME --keys {path} makes it"
    )
    give(path, "alice")
    path.chmod(0o644)
    assert f"chmod 600 {path}" in refusal(WebTier(valkey_url, RANKCAST_KEYS=str(path)), capfd)


def test_settings_that_cannot_be_read_are_told_in_a_line(
    valkey_url: str, redis: redis_py.Redis, capfd: pytest.CaptureFixture[str]
):
    line = refusal(WebTier(valkey_url, RANKCAST_CORS="*"), capfd)
    assert line.startswith("rankcast: RANKCAST_CORS: '*' is no origin")
