"""`rankcast keys` as people type it, and `web` and `up` with the keys that it made."""

import json
import re
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_py
from api_keys import give, revoke
from commands import STEPS, Running, Up, rankcast
from helpers import free_port, wait_until

from rankcast import Client, RequestRefused
from rankcast.tasks.keyuse import KeyUse
from rankcast.web.keyring import Keyring, Scope, read_keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def created(path: Path, *args: str) -> str:
    """The text of a new key, from stdout alone."""
    done = rankcast("keys", "create", *args, "--keys", path)
    assert done.returncode == 0, done.stderr
    return str(done.stdout.removesuffix("\n"))


def listed(path: Path, **env: str) -> list[dict[str, Any]]:
    done = rankcast("keys", "list", "--json", "--keys", path, **env)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


# create, list, revoke


def test_a_key_is_shown_once_and_alone_on_stdout(path: Path):
    """`KEY=$(rankcast keys create me)`; what there is to know of it goes to stderr, without its secret."""
    done = rankcast("keys", "create", "me", RANKCAST_KEYS=str(path))
    assert re.fullmatch(r"rk_[0-9a-f]{12}_[0-9a-f]{64}\n", done.stdout)
    [key] = read_keys(path)
    assert (key.name, key.scopes) == ("me", {Scope.SUBMIT, Scope.READ})
    assert f"key {key.id} (me) may submit and read" in done.stderr
    secret = done.stdout.strip().rpartition("_")[2]
    assert secret not in done.stderr
    assert secret not in rankcast("keys", "list", "--keys", path).stdout
    assert Keyring(path).find(done.stdout.strip()) == key


def test_a_key_has_the_scopes_that_it_was_given(path: Path):
    created(path, "watcher", "--scope", "read")
    created(path, "boss", "--scope", "admin")
    created(path, "both", "--scope", "submit", "--scope", "read")
    assert {key["name"]: key["scopes"] for key in listed(path)} == {
        "watcher": ["read"],
        "boss": ["admin"],
        "both": ["read", "submit"],
    }


def test_a_revoked_key_stays_in_the_list_and_its_name_is_free_again(path: Path):
    """By name or by id; a name means the key that is alive."""
    created(path, "me")
    first = rankcast("keys", "revoke", "me", "--keys", path)
    assert first.returncode == 0
    assert "nobody is let in" in first.stderr
    created(path, "me")
    old, new = listed(path)
    assert (old["revoked"] is None, new["revoked"]) == (False, None)
    assert rankcast("keys", "revoke", new["id"], "--keys", path).returncode == 0
    assert all(key["revoked"] for key in listed(path))
    table = rankcast("keys", "list", "--keys", path)
    assert [line.split()[:2] for line in table.stdout.splitlines()[1:]] == [
        ["me", old["id"]],
        ["me", new["id"]],
    ]
    assert "lets anybody in" in table.stderr


def test_the_list_says_when_each_key_was_used_where_redis_is_named(
    path: Path, redis: redis_py.Redis, valkey_url: str
):
    """And that it does not know where none is."""
    used, _ = (created(path, name) for name in ("used", "unused"))
    KeyUse(redis).note(used.split("_")[1])
    assert [key["last_used"] for key in listed(path)] == [None, None]
    told = {key["name"]: key["last_used"] for key in listed(path, RANKCAST_REDIS_URL=valkey_url)}
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["used"])
    assert told["unused"] is None
    without = rankcast("keys", "list", "--keys", path)
    assert "--redis-url" in without.stderr
    assert "never" not in without.stdout
    assert "never" in rankcast("keys", "list", "--keys", path, "--redis-url", valkey_url).stdout


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["create", "me"], 2, "--keys"),
        (["create", "me", "--keys", "FILE"], 2, "there is a key 'me'"),
        (["create", "", "--keys", "FILE"], 2, "printable"),
        (["create", "a\nb", "--keys", "FILE"], 2, "printable"),
        (["create", "you", "--keys", "FILE", "--scope", "write"], 2, "'write' is not one of"),
        (["create", "you", "--keys", "nowhere/keys"], 1, "No such file"),
        (["revoke", "you", "--keys", "FILE"], 2, "there is no key 'you'"),
        (["revoke", "gone", "--keys", "FILE"], 2, "was revoked at 2026-01-31T12:00:00Z"),
        (["list", "--keys", "nowhere"], 1, "rankcast keys create NAME --keys"),
        (["list", "--keys", "FILE", "--redis-url", "redis://127.0.0.1:1"], 4, "Redis does not answer"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(path: Path, args: list[str], code: int, told: str):
    """And changes nothing."""
    give(path, "me")
    revoke(path, give(path, "gone"))
    before = path.read_text()
    done = rankcast("keys", *(each.replace("FILE", str(path)) for each in args), cwd=path.parent)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_text() == before


# A server with keys


def test_web_with_keys_may_be_reached_by_others_and_follows_the_file(
    path: Path, valkey_url: str, redis: redis_py.Redis
):
    """No --open, no warning; a key that is made while it runs is let in, and one that is revoked is not."""
    first, port = created(path, "first"), str(free_port())
    at = {"RANKCAST_REDIS_URL": valkey_url}
    with Running("web", "--port", port, "--host", "0.0.0.0", "--keys", path, **at) as web:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _status(url, first) == 200, "the web tier answers", timeout_s=60)
        late = created(path, "late")
        assert (_status(url, late), _status(url)) == (200, 401)
        rankcast("keys", "revoke", "late", "--keys", path)
        assert (_status(url, late), _status(url, first)) == (401, 200)
        assert web.stop(signal.SIGTERM) == 0, web.told
        assert "warning" not in web.told
        assert first not in web.told


def _status(url: str, key: str = "none") -> int:
    try:
        return httpx.get(f"{url}/tasks", headers={"Authorization": f"Key {key}"}, timeout=30).status_code
    except httpx.TransportError:
        return 0


@pytest.mark.parametrize("command", [["web"], ["up", "--tasks", STEPS]])
def test_keys_that_cannot_be_read_are_told_before_anything_starts(path: Path, command: list[Any]):
    """Also in the environment, and also on loopback: who names keys does not want an open server."""
    for args, env in (["--keys", path], {}), ([], {"RANKCAST_KEYS": str(path)}):
        done = rankcast(*command, "--port", "0", *args, **env)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"rankcast keys create NAME --keys {path}" in done.stderr
    give(path, "me")
    path.chmod(0o644)
    done = rankcast(*command, "--port", "0", "--keys", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"chmod 600 {path}" in done.stderr


def test_a_page_that_is_no_origin_is_told_before_anything_starts():
    done = rankcast("web", "--port", "0", "--cors", "https://example.com/app")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is no origin" in done.stderr


def test_pages_are_named_to_web(valkey_url: str, redis: redis_py.Redis):
    """Several times, and on a server that others may use without keys."""
    pages = ("https://app.example", "http://localhost:5173")
    options = [each for page in pages for each in ("--cors", page)]
    port = str(free_port())
    at = {"RANKCAST_REDIS_URL": valkey_url}
    with Running("web", "--port", port, "--host", "0.0.0.0", "--open", *options, **at) as web:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _status(url) == 200, "the web tier answers", timeout_s=60)
        assert "there are no keys" in web.told
        for page in pages:
            answer = httpx.get(f"{url}/tasks", headers={"Origin": page, "Host": "rankcast.example.com"})
            assert answer.headers["Access-Control-Allow-Origin"] == page
        assert web.stop(signal.SIGTERM) == 0, web.told


def test_up_takes_the_keys_that_lie_in_its_data(tmp_path: Path):
    """It has a key of its own for what it asks itself, to the end: it says that it is up, and what is queued
    when it goes is told to its viewers. Nobody else has that key."""
    data = tmp_path / "data"
    data.mkdir()
    key = created(data / "keys", "me")
    with Up("--tasks", STEPS, "--data", data) as up:
        assert "examples/steps (2 ranks)" in up.says("rankcast is up")
        with Client(up.url) as stranger, pytest.raises(RequestRefused) as refused:
            stranger.submit("examples/steps", prompt="x")
        assert refused.value.status == 401
        with Client(up.url, key=key) as client:
            assert client.submit("examples/steps", prompt="x", steps=1).result(60)["ranks"] == 2
        assert up.stop() == 0, up.told
        assert up.left == []
        assert not re.search(r"rk_\w+_[0-9a-f]{64}", up.told)


def test_up_with_keys_cancels_what_is_still_queued_when_it_ends(path: Path):
    """Its Redis goes with it; it may do that though the jobs are not its own."""
    key = created(path, "me")
    with Up("--tasks", STEPS, "--keys", path) as up, Client(up.url, key=key) as client:
        running = client.submit("examples/steps", prompt="x", steps=60).stream()
        next(event for event in running if event.is_result)
        queued = client.submit("examples/steps", prompt="x").stream()
        assert next(queued).data["state"] == "queued"
        up.process.send_signal(signal.SIGINT)
        assert list(queued)[-1].data["state"] == "cancelled"
        assert up.wait() == 0
        assert up.left == []


def test_a_client_command_shows_the_key_that_is_in_its_environment(
    path: Path, valkey_url: str, redis: redis_py.Redis
):
    """RANKCAST_KEY; without it the refusal says what is missing."""
    key, port = created(path, "me"), str(free_port())
    with Running("web", "--port", port, "--keys", path, RANKCAST_REDIS_URL=valkey_url) as web:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _status(url, key) == 200, "the web tier answers", timeout_s=60)
        assert rankcast("status", "--url", url, RANKCAST_KEY=key).returncode == 0
        refused = rankcast("status", "--url", url)
        assert refused.returncode == 4
        assert "Authorization: Key" in refused.stderr
        assert web.stop(signal.SIGTERM) == 0, web.told
