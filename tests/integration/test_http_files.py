"""Uploads over HTTP: on disk as they arrive, whole or not at all, and never as a page of this origin."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import redis as redis_py
from api_keys import Holder, give
from helpers import wait_until
from web_tier import WebTier, told, web_tier

from rankcast.web import tokens
from rankcast.web.keyring import read_keys

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def tier(valkey_url: str, shared: Path) -> Iterator[WebTier]:
    options = {"RANKCAST_SHARED": str(shared), "RANKCAST_MAX_FILE_BYTES": str(400 * MIB)}
    with web_tier(valkey_url, **options) as tier:
        yield tier


@pytest.fixture
def http(tier: WebTier, redis: redis_py.Redis) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=tier.url, timeout=60) as client:
        yield client


def of(size: int) -> Iterator[bytes]:
    for _ in range(size // MIB):
        yield b"x" * MIB


def left_in(shared: Path) -> set[str]:
    return {path.name for path in (shared / "files").iterdir()}


def raw(tier: WebTier, request: bytes) -> bytes:
    """Send this, then nothing more; the answer."""
    address = urlsplit(tier.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_file_comes_back_as_it_was_sent(http: httpx.Client):
    """Whatever its type says; the answer is what stands for it in an input."""
    response = http.post("/files", params={"file_name": "my cat.png"}, content=b"\x89PNG\r\n")
    body = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == body["url"]
    assert body == {
        "url": body["url"],
        "content_type": "image/png",
        "file_name": "my_cat.png",
        "file_size": 6,
    }
    back = http.get(body["url"])
    assert (back.content, back.headers["Content-Type"]) == (b"\x89PNG\r\n", "image/png")
    assert back.headers["X-Content-Type-Options"] == "nosniff"
    assert http.get(body["url"], headers={"Range": "bytes=1-3"}).content == b"PNG"


def test_a_page_is_saved_and_not_shown(http: httpx.Client):
    """Also one that says that it is an image."""
    sent = {
        "params": {"file_name": "a.html"},
        "headers": {"Content-Type": "image/png"},
        "content": b"<script>",
    }
    headers = http.get(http.post("/files", **sent).json()["url"]).headers
    assert headers["Content-Disposition"] == 'attachment; filename="a.html"'
    assert "sandbox" in headers["Content-Security-Policy"]


def test_an_empty_file_and_one_without_a_name_are_files(http: httpx.Client):
    body = http.post("/files").json()
    assert (body["file_name"], body["file_size"]) == ("file", 0)
    assert http.get(body["url"]).content == b""


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_large_upload_costs_no_memory_and_holds_nobody_up(
    http: httpx.Client, tier: WebTier, is_chunked: bool
):
    """300 MiB, with a length and without one; others are answered in between."""
    (process,) = psutil.Process(tier.process.pid).children()
    before = process.memory_info().rss
    most, sent = before, 0

    def watched() -> Iterator[bytes]:
        nonlocal most, sent
        for chunk in of(300 * MIB):
            yield chunk
            sent += 1
            if sent % 50 == 0:
                assert httpx.get(f"{tier.url}/healthz", timeout=30).status_code == 200
                most = max(most, process.memory_info().rss)

    headers = {} if is_chunked else {"Content-Length": str(300 * MIB)}
    body = http.post("/files", content=watched(), headers=headers).json()
    assert body["file_size"] == 300 * MIB
    assert sent == 300
    assert most - before < 60 * MIB


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
def test_an_upload_that_breaks_off_is_no_file(
    http: httpx.Client, tier: WebTier, shared: Path, framing: bytes
):
    """With whichever framing: it is not cut short in silence, and nothing of it stays."""
    http.post("/files", content=b"whole")
    before = left_in(shared)
    start = b"400\r\n" if b"chunked" in framing else b""
    answer = raw(
        tier, b"POST /files HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n\r\n" + start + b"y" * 500
    )
    assert b" 201 " not in answer
    wait_until(lambda: left_in(shared) == before, "nothing is left of it")


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_file_over_the_limit_is_refused(valkey_url: str, tmp_path: Path, is_chunked: bool):
    """By its length at once, else when it has come so far; nothing of it stays."""
    options = {"RANKCAST_SHARED": str(tmp_path), "RANKCAST_MAX_FILE_BYTES": "1000"}
    with web_tier(valkey_url, **options) as tier:
        content = iter([b"x" * 600, b"x" * 401]) if is_chunked else b"x" * 1001
        detail = told(httpx.post(f"{tier.url}/files", content=content), 413, "content-too-large")["detail"]
        assert "1000" in detail
        assert httpx.post(f"{tier.url}/files", content=b"x" * 1000).status_code == 201
        assert len(left_in(tmp_path)) == 1


def test_a_file_may_be_larger_than_a_json_body(valkey_url: str, tmp_path: Path):
    """The two limits are two."""
    options = {"RANKCAST_SHARED": str(tmp_path), "RANKCAST_MAX_BODY_BYTES": "100"}
    with web_tier(valkey_url, **options) as tier:
        assert httpx.post(f"{tier.url}/files", content=b"x" * 1000).json()["file_size"] == 1000
        told(httpx.post(f"{tier.url}/jobs", content=b"x" * 1000), 413, "content-too-large")


def test_a_file_is_kept_for_a_while(valkey_url: str, tmp_path: Path):
    options = {"RANKCAST_SHARED": str(tmp_path), "RANKCAST_FILE_TTL_S": "0.001"}
    with web_tier(valkey_url, **options) as tier:
        url = httpx.post(f"{tier.url}/files", content=b"x").json()["url"]
        wait_until(lambda: httpx.get(f"{tier.url}{url}").status_code == 404, "its end")


def test_a_full_disk_says_so_and_leaves_nothing(valkey_url: str, tmp_path: Path):
    """Also when the log is on it."""
    with web_tier(valkey_url, RANKCAST_SHARED=str(tmp_path)) as tier:
        (process,) = psutil.Process(tier.process.pid).children()
        soft, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (10, hard))
        for size in (1, 400, MIB):
            answer = httpx.post(f"{tier.url}/files", content=b"x" * size, timeout=30)
            assert "EFBIG" in told(answer, 507, "storage-full")["detail"]
        assert left_in(tmp_path) == set()
        process.rlimit(psutil.RLIMIT_FSIZE, (soft, hard))
        assert httpx.post(f"{tier.url}/files", content=b"x").status_code == 201


def test_a_form_is_told_how_to_send_a_file(http: httpx.Client):
    told(http.post("/files", files={"file": b"x"}), 415, "unsupported-media-type")


def test_a_web_tier_without_a_folder_takes_no_files(web: str):
    """And says what to set."""
    detail = told(httpx.post(f"{web}/files", content=b"x"), 501, "no-shared-folder")["detail"]
    assert "--shared" in detail
    told(httpx.get(f"{web}/files/{'0' * 32}/a"), 404, "unknown-file")


@pytest.mark.parametrize(
    "path", ["..%2f..%2fserved", ".about", "%2e%2e%2f%2e%2e%2fid", "a%00", "%2fetc%2fhostname"]
)
def test_no_path_leads_to_another_file(http: httpx.Client, tier: WebTier, path: str):
    folder = http.post("/files", content=b"x").json()["url"].rpartition("/")[0]
    for where in (f"{folder}/{path}", f"/files/{path}/file", f"/files/{path}"):
        answer = raw(tier, f"GET {where} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert answer.split(b" ", 2)[1] in (b"308", b"404", b"405"), answer


def test_a_file_is_its_keys_alone(valkey_url: str, redis: redis_py.Redis, tmp_path: Path):
    """For another key there is none; an admin's sees it."""
    path = tmp_path / "keys"
    alice, bob, admin = give(path, "alice"), give(path, "bob"), give(path, "root", ["admin"])
    options = {"RANKCAST_SHARED": str(tmp_path / "shared"), "RANKCAST_KEYS": str(path)}
    with web_tier(valkey_url, **options) as tier, httpx.Client(base_url=tier.url, timeout=60) as http:
        url = http.post("/files", content=b"mine", headers=alice.headers).json()["url"]
        assert http.get(url).status_code == 401
        told(http.get(url, headers=bob.headers), 404, "unknown-file")
        assert [http.get(url, headers=each.headers).content for each in (alice, admin)] == [b"mine"] * 2


def test_a_token_opens_one_file(valkey_url: str, redis: redis_py.Redis, tmp_path: Path):
    """To whoever has its URL, as far as its key may see; no other file, and for no other purpose."""
    path = tmp_path / "keys"
    alice, bob = give(path, "alice"), give(path, "bob")
    of = {key.id: key for key in read_keys(path)}
    options = {"RANKCAST_SHARED": str(tmp_path / "shared"), "RANKCAST_KEYS": str(path)}
    with web_tier(valkey_url, **options) as tier, httpx.Client(base_url=tier.url, timeout=60) as http:
        url, other = (
            http.post("/files", content=b"mine", headers=alice.headers).json()["url"] for _ in range(2)
        )
        subject, soon = url.split("/")[2], time.time() + 60

        def opened(url: str, holder: Holder, purpose: tokens.Purpose) -> httpx.Response:
            return http.get(url, params={"token": tokens.sign(of[holder.id], purpose, subject, soon)})

        assert opened(url, alice, tokens.FILE).content == b"mine"
        told(opened(url, bob, tokens.FILE), 404, "unknown-file")
        told(opened(other, alice, tokens.FILE), 401, "key-needed")
        told(opened(url, alice, tokens.ARTIFACTS), 401, "key-needed")
