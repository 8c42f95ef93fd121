"""What fal's clients uploaded is in the hands of the task, and what it stored in theirs, by plain URLs."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_keys import give
from connect_proxy import ConnectProxy
from web_tier import web_tier

from fal_clients.programs import System
from fal_clients.test_uploads import by_name, opened

SIZE = 2_000_000


@pytest.fixture(scope="module", params=["without keys", "with keys"])
def deployment(
    system: System, valkey_url: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[tuple[System, dict[str, str]]]:
    """The system, and the key of its clients in their environment."""
    if request.param == "without keys":
        yield system, {}
        return
    keys = tmp_path_factory.mktemp("deployment") / "keys"
    alice = give(keys, "alice")
    options = {"tls": system.web.tls, "RANKCAST_SHARED": system.shared, "RANKCAST_KEYS": str(keys)}
    with web_tier(valkey_url, **options) as web:
        yield system._replace(web=web), {"FAL_KEY": alice.text}


def check_stored(system: System, output: dict[str, Any], is_keyed: bool) -> None:
    """A reference as fal's, whose URL any client opens; with keys for the sake of its token."""
    file = output["file"]
    assert (file["content_type"], file["file_size"]) == ("application/octet-stream", SIZE)
    assert opened(system, file["url"]).content == b"x" * SIZE
    assert ("?token=" in file["url"]) == is_keyed
    bare = opened(system, file["url"].partition("?token=")[0])
    assert bare.status_code == (401 if is_keyed else 200)


def test_python_gives_and_gets_files(deployment: tuple[System, dict[str, str]], tmp_path: Path) -> None:
    """By run and by queue, and a data URL; what comes out goes in again, and is told as a URL."""
    system, env = deployment
    with contextlib.closing(ConnectProxy(system.web.port)) as proxy:
        told: dict[str, Any] = {}
        for line in system.run("files_in_jobs.py", str(tmp_path), **env, **by_name(proxy)):
            told |= line
    for how in ("by_run", "by_queue"):
        assert told[how]["begins"] == "hello from a file"
        assert told[how]["image_url"].partition("?")[0] == told["uploaded"].partition("?")[0]
    assert told["encoded"]["begins"] == "hello from a file"
    assert told["asynchronous"]["begins"] == "hello from asyncio"
    assert told["again"]["size"] == SIZE
    for how in ("stored", "queued"):
        check_stored(system, told[how], is_keyed=bool(env))


def test_javascript_gives_and_gets_files(deployment: tuple[System, dict[str, str]]) -> None:
    """A Blob and a File in an input are uploaded by the client itself."""
    system, env = deployment
    (told,) = system.run("files_in_jobs.js", **env)
    assert told["by_run"]["begins"] == "hello from a blob"
    assert told["by_queue"]["begins"] == "hello from a file"
    assert told["by_queue"]["image_url"].partition("?")[0].endswith("/my_cat.png")
    assert told["again"]["size"] == SIZE
    check_stored(system, told["stored"], is_keyed=bool(env))
