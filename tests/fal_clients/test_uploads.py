"""fal's clients upload as ever; what they are given opens without them."""

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from api_keys import give
from connect_proxy import ConnectProxy
from web_tier import web_tier

from fal_clients.programs import System

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def proxy(system: System) -> Iterator[ConnectProxy]:
    """Python's client has the hosts of uploads as constants: nothing else leads it here."""
    found = ConnectProxy(system.web.port)
    yield found
    found.close()


def by_name(proxy: ConnectProxy) -> dict[str, str]:
    """What makes a program of Python's ask for fal's own hosts, and come here."""
    return {"HTTPS_PROXY": proxy.url, "FAL_RUN_HOST": "fal.run", "FAL_QUEUE_RUN_HOST": "queue.fal.run"}


def opened(system: System, url: str) -> httpx.Response:
    """As a browser or another program opens it: with no key, and through no proxy."""
    return httpx.get(url, verify=ssl.create_default_context(cafile=system.env["SSL_CERT_FILE"]))


def names(urls: dict[str, str]) -> dict[str, str]:
    return {how: urlsplit(url).path.split("/")[-1] for how, url in urls.items()}


@pytest.mark.parametrize("is_async", [False, True])
def test_python_uploads(system: System, proxy: ConnectProxy, tmp_path: Path, is_async: bool) -> None:
    """With each of its functions, its fallback, and what it may ask for how long a file is kept."""
    (urls,) = system.run("uploads.py", is_async, str(tmp_path), **by_name(proxy))
    assert names(urls) == {
        "text": "file.txt",
        "named": "a.txt",
        "file": "my_cat.png",
        "image": "file.webp",
        "fallback": "upload.bin.txt",
        "settings": "file.txt",
        "both": "upload.bin.txt",
    }
    assert all(url.startswith(f"{system.web.url}/files/") for url in urls.values())
    found = {how: opened(system, url) for how, url in urls.items()}
    assert found["file"].content == (tmp_path / "my cat.png").read_bytes()
    assert found["image"].content.startswith(b"RIFF")
    assert found["image"].headers["Content-Type"] == "image/webp"
    assert {found[how].content for how in found.keys() - {"file", "image"}} == {b"hello"}
    assert {"rest.fal.ai:443", "v3.fal.media:443"} <= set(proxy.asked)


def test_python_is_told_why_a_file_is_too_large(system: System, proxy: ConnectProxy, tmp_path: Path) -> None:
    """At once, and not after ten attempts; before it has sent the file, if that comes in parts."""
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(100 * MIB + 1)
    before = proxy.asked.count("v3.fal.media:443")
    told = system.run("too_large.py", str(large), **by_name(proxy))
    assert proxy.asked.count("v3.fal.media:443") == before + 3
    assert [line[:2] for line in told] == [[413, "payload_too_large"]] * 3
    for _, _, message in told:
        assert "POST /files take 1073741824" in message


def test_javascript_uploads(system: System) -> None:
    """A blob, a file with its name, by both ways to point it here; and it is told what is too large."""
    urls, refusal = system.run("uploads.js")
    assert urls.keys() == {"blob", "untyped", "file", "settings", "proxied"}
    assert names(urls)["file"] == "my_cat.png"
    for url in urls.values():
        assert opened(system, url).content == b"hello"
    assert opened(system, urls["blob"]).headers["Content-Type"] == "image/png"
    assert refusal[:2] == [413, "payload_too_large"]
    assert "90 MiB" in refusal[2]


def test_with_keys_an_upload_is_its_keys_and_opens_by_its_url(
    system: System, valkey_url: str, tmp_path: Path
) -> None:
    """JavaScript sends the file without its key, and Python with a token instead."""
    keys = tmp_path / "keys"
    alice = give(keys, "alice")
    options = {"tls": system.web.tls, "RANKCAST_SHARED": system.shared, "RANKCAST_KEYS": str(keys)}
    with web_tier(valkey_url, **options) as web, contextlib.closing(ConnectProxy(web.port)) as proxy:
        keyed = system._replace(web=web)
        (python,) = keyed.run("uploads.py", False, str(tmp_path), FAL_KEY=alice.text, **by_name(proxy))
        javascript, _ = keyed.run("uploads.js", FAL_KEY=alice.text)
        for url in (*python.values(), *javascript.values()):
            assert opened(keyed, url).status_code == 200
            assert opened(keyed, url.partition("?token=")[0]).status_code == 401
