"""fal's storage, as its clients speak to it: two ways to upload, and what they are told when it cannot be."""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import redis as redis_py
from fal_uploads import CDN, INITIATE, TOKEN, initiated, left_in, refused
from helpers import wait_until
from web_tier import WebTier, web_tier

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def tier(valkey_url: str, shared: Path) -> Iterator[WebTier]:
    with web_tier(valkey_url, RANKCAST_SHARED=str(shared)) as tier:
        yield tier


@pytest.fixture
def http(tier: WebTier, redis: redis_py.Redis) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=tier.url, timeout=60) as client:
        yield client


@pytest.fixture
def unchanged(shared: Path) -> Iterator[None]:
    """The folder has the same files afterwards, and nothing hidden."""
    before = left_in(shared)
    yield
    wait_until(lambda: left_in(shared) == before, "nothing is left")


# Two ways


def test_python_sends_a_file_with_a_token(http: httpx.Client):
    """What it needs of both answers, and a URL that a plain client opens."""
    told = http.post(TOKEN, json={}).json()
    assert datetime.fromisoformat(told["expires_at"]) > datetime.now(UTC)
    assert told["base_url"] == f"{http.base_url}/cdn"
    headers = {
        "Authorization": f"{told['token_type']} {told['token']}",
        "Content-Type": "image/png",
        "X-Fal-File-Name": "my cat.png",
    }
    url = http.post(CDN, content=b"\x89PNG", headers=headers).json()["access_url"]
    back = httpx.get(url)
    assert (back.content, back.headers["Content-Type"]) == (b"\x89PNG", "image/png")
    assert url.startswith(f"{http.base_url}/files/")
    assert url.endswith("/my_cat.png")


def test_javascript_learns_the_url_before_it_sends_the_file(http: httpx.Client):
    """Its PUT is bare; what it sends is there only then."""
    upload_url, file_url = initiated(http)
    assert httpx.get(file_url).status_code == 404
    put = httpx.put(upload_url, content=b"\x89PNG", headers={"Content-Type": "image/png"})
    assert (put.status_code, put.json()["url"]) == (200, file_url)
    assert httpx.get(file_url).content == b"\x89PNG"


@pytest.mark.parametrize(
    ("name", "content_type", "kept"),
    [
        ("", "", "file"),
        ("", "image/jpeg", "file.jpg"),
        ("upload.bin", "image/webp", "upload.bin.webp"),
        ("1764054000000.plain", "text/plain;charset=utf-8", "1764054000000.plain.txt"),
        ("cat.png", "image/jpeg", "cat.png"),
        ("weights.safetensors", "application/octet-stream", "weights.safetensors"),
        ("../../etc/passwd", "no/such-type", "passwd"),
        ("x" * 300 + ".dat", "image/png", "x" * 100 + ".dat.png"),
    ],
)
def test_a_file_is_served_as_what_it_was_sent_as(http: httpx.Client, name: str, content_type: str, kept: str):
    """The end of its name is all that is kept of its type; some clients send a name without one."""
    asked = {"file_name": name, "content_type": content_type}
    told = http.post(INITIATE, json=asked).json()
    sent = {"X-Fal-File-Name": name, "Content-Type": content_type}
    url = http.post(CDN, content=b"x", headers=sent).json()["access_url"]
    assert [urlsplit(each).path.split("/")[-1] for each in (url, told["file_url"])] == [kept, kept]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"file_name": null}', b'{"file_name": 3, "content_type": []}']
)
def test_a_file_needs_no_name(http: httpx.Client, body: bytes):
    told = http.post(INITIATE, content=body).json()
    assert httpx.put(told["upload_url"], content=b"x").status_code == 200
    assert httpx.get(told["file_url"]).content == b"x"


def test_who_comes_by_the_name_of_fals_hosts_is_sent_to_another_of_them(tier: WebTier, http: httpx.Client):
    """A proxy of the client's leads there. The file is at this server's own address, for everybody."""
    path = INITIATE.removeprefix("/rest")
    told = http.post(path, json={"file_name": "cat.png"}, headers={"Host": "rest.fal.ai"}).json()
    upload_url, file_url = told["upload_url"], told["file_url"]
    assert upload_url.startswith("http://v3.fal.media/files/")
    assert file_url.startswith(f"http://127.0.0.1:{tier.port}/files/")
    path = upload_url.removeprefix("http://v3.fal.media")
    assert http.put(path, content=b"x", headers={"Host": "v3.fal.media"}).json()["url"] == file_url
    assert httpx.get(file_url).content == b"x"


def test_a_public_url_is_told_to_everybody(valkey_url: str, tmp_path: Path):
    """Where a proxy in front gives another name than the one that clients know."""
    options = {"RANKCAST_SHARED": str(tmp_path), "RANKCAST_PUBLIC_URL": "https://example.com/gpu"}
    with web_tier(valkey_url, **options) as tier, httpx.Client(base_url=tier.url, timeout=60) as http:
        upload_url, file_url = initiated(http)
        assert upload_url.startswith("https://example.com/gpu/cdn/files/")
        assert file_url.startswith("https://example.com/gpu/files/")


# How long


@pytest.mark.parametrize("header", ["X-Fal-Object-Lifecycle", "X-Fal-Object-Lifecycle-Preference"])
def test_a_client_says_how_long_a_file_is_kept(http: httpx.Client, header: str):
    """Both ways; and what is said of access lists is let be."""
    wish = {"expiration_duration_seconds": 0.001, "initial_acl": {"default": "hide"}}
    headers = {header: json.dumps(wish)}
    upload_url, file_url = initiated(http, headers=headers)
    assert httpx.put(upload_url, content=b"x").status_code == 200
    sent = http.post(CDN, content=b"x", headers=headers).json()["access_url"]
    for url in (file_url, sent):
        wait_until(lambda url=url: httpx.get(url).status_code == 404, "its end")


def test_nothing_is_kept_longer_than_the_server_keeps_files(valkey_url: str, tmp_path: Path):
    options = {"RANKCAST_SHARED": str(tmp_path), "RANKCAST_FILE_TTL_S": "0.001"}
    with web_tier(valkey_url, **options) as tier, httpx.Client(base_url=tier.url, timeout=60) as http:
        headers = {"X-Fal-Object-Lifecycle": json.dumps({"expiration_duration_seconds": 31536000})}
        upload_url, file_url = initiated(http, headers=headers)
        longer = upload_url.partition("ttl_s=")[0] + "ttl_s=1000"
        assert httpx.put(longer, content=b"x").status_code == 200
        wait_until(lambda: httpx.get(file_url).status_code == 404, "its end")


@pytest.mark.parametrize(
    "wish", ["", "never", "[]", '{"expiration_duration_seconds": 0}', '{"expiration_duration_seconds": "1d"}']
)
@pytest.mark.usefixtures("unchanged")
def test_a_wish_that_cannot_be_is_refused(http: httpx.Client, wish: str):
    headers = {"X-Fal-Object-Lifecycle": wish}
    refused(http.post(INITIATE, json={}, headers=headers), 400)
    refused(http.post(CDN, content=b"x", headers=headers), 400)


@pytest.mark.parametrize("ttl_s", ["0", "-1", "nan"])
@pytest.mark.usefixtures("unchanged")
def test_a_url_that_was_changed_is_refused(http: httpx.Client, ttl_s: str):
    upload_url, _ = initiated(http)
    refused(httpx.put(f"{upload_url.partition('?')[0]}?ttl_s={ttl_s}", content=b"x"), 400)


# What goes wrong


def test_a_file_never_changes(http: httpx.Client, shared: Path):
    """The same once more is the same, for a client that lost the answer; another one is refused."""
    upload_url, file_url = initiated(http)
    assert httpx.put(upload_url, content=b"first").status_code == 200
    before = left_in(shared)
    assert httpx.put(upload_url, content=b"first").json()["url"] == file_url
    assert "never changes" in refused(httpx.put(upload_url, content=b"other"), 412)
    refused(httpx.put(upload_url.replace("cat.png", "dog.png"), content=b"first"), 412)
    assert httpx.get(file_url).content == b"first"
    assert left_in(shared) == before


@pytest.mark.parametrize("place", ["0/cat.png", f"{'0' * 32}/.about", f"{'0' * 32}/a%20b", "..%2f../a"])
@pytest.mark.usefixtures("unchanged")
def test_only_what_was_told_can_be_written_to(http: httpx.Client, place: str):
    answer = http.put(f"/cdn/files/{place}", content=b"x")
    assert answer.status_code in (400, 404)


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("is_put", [True, False])
@pytest.mark.usefixtures("unchanged")
def test_an_upload_that_breaks_off_is_no_file(http: httpx.Client, tier: WebTier, framing: str, is_put: bool):
    upload_url, file_url = initiated(http)
    target = f"PUT {upload_url.removeprefix(tier.url)}" if is_put else f"POST {CDN}"
    start = "400\r\n" if "chunked" in framing else ""
    with socket.create_connection(("127.0.0.1", tier.port), timeout=30) as connection:
        request = f"{target} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n{start}{'y' * 500}"
        connection.sendall(request.encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b" 200 " not in answer
    assert httpx.get(file_url).status_code == 404


@pytest.mark.usefixtures("unchanged")
def test_a_file_over_100_mib_is_refused_so_that_its_client_hears_it(http: httpx.Client):
    """One that first sends all, and then listens, as both of fal's do; it is told another way."""
    upload_url, file_url = initiated(http)
    headers = {"Content-Length": str(101 * MIB)}
    for method, url in (("PUT", upload_url), ("POST", CDN)):
        content = (b"x" * MIB for _ in range(101))
        detail = refused(http.request(method, url, content=content, headers=headers), 413)
        assert "104857600 bytes" in detail
        assert "POST /files" in detail
    assert httpx.get(file_url).status_code == 404


@pytest.mark.parametrize("path", ["/rest/storage/upload/initiate-multipart", "/cdn/files/upload/multipart"])
def test_a_file_in_parts_is_refused_at_its_beginning(http: httpx.Client, path: str):
    """As both clients send large ones; they are told the limit and another way."""
    detail = refused(http.post(path, json={}), 413)
    assert "90 MiB" in detail
    assert "Client.upload" in detail


def test_a_servers_own_limit_may_be_lower(valkey_url: str, tmp_path: Path):
    """Met by the length that is promised, or by what has come."""
    options = {"RANKCAST_SHARED": str(tmp_path), "RANKCAST_MAX_FILE_BYTES": "1000"}
    with web_tier(valkey_url, **options) as tier, httpx.Client(base_url=tier.url, timeout=60) as http:
        for size, status in ((1000, 200), (1001, 413)):
            upload_url, _ = initiated(http)
            assert httpx.put(upload_url, content=b"x" * size).status_code == status
            assert http.post(CDN, content=iter([b"x" * size])).status_code == status
        assert len(left_in(tmp_path)) == 2


def test_a_file_may_be_larger_than_a_json_body(valkey_url: str, tmp_path: Path):
    options = {"RANKCAST_SHARED": str(tmp_path), "RANKCAST_MAX_BODY_BYTES": "200"}
    with web_tier(valkey_url, **options) as tier, httpx.Client(base_url=tier.url, timeout=60) as http:
        upload_url, _ = initiated(http)
        assert httpx.put(upload_url, content=b"x" * 1000).status_code == 200
        refused(http.post(INITIATE, json={"file_name": "x" * 1000}), 413)


def test_without_a_shared_folder_every_upload_says_what_is_missing(web: str):
    """But not the token: of its refusal Python's client would tell the status alone."""
    assert httpx.post(f"{web}{TOKEN}", json={}).status_code == 200
    for answer in (httpx.post(f"{web}{CDN}", content=b"x"), httpx.post(f"{web}{INITIATE}", json={})):
        assert "--shared" in refused(answer, 501)


def test_a_full_disk_says_so_and_leaves_nothing(valkey_url: str, tmp_path: Path):
    """On both ways in; and once there is room again, the same URL takes the file."""
    with (
        web_tier(valkey_url, RANKCAST_SHARED=str(tmp_path)) as tier,
        httpx.Client(base_url=tier.url, timeout=60) as http,
    ):
        (process,) = psutil.Process(tier.process.pid).children()
        soft, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        upload_url, file_url = initiated(http)
        process.rlimit(psutil.RLIMIT_FSIZE, (300, hard))
        assert "EFBIG" in refused(httpx.put(upload_url, content=b"x" * MIB), 507)
        assert "EFBIG" in refused(http.post(CDN, content=b"x" * 400), 507)
        assert left_in(tmp_path) == set()
        process.rlimit(psutil.RLIMIT_FSIZE, (soft, hard))
        assert httpx.put(upload_url, content=b"x" * MIB).json()["url"] == file_url


@pytest.mark.parametrize("path", [CDN, "/files/upload"])
def test_a_connection_ends_with_its_upload(http: httpx.Client, path: str):
    """Whichever name led there: the rest of a refused one would be read before the next request."""
    host = {"Host": "v3.fal.media"} if path == "/files/upload" else {}
    assert http.post(path, content=b"x", headers=host).headers["Connection"] == "close"
    upload_url, _ = initiated(http)
    assert httpx.put(upload_url, content=b"x").headers["Connection"] == "close"


# From pages


def test_an_allowed_page_sends_a_file_to_the_url_that_it_was_told(valkey_url: str, tmp_path: Path):
    """A browser asks for leave first; another page gets none, and cannot do without."""
    page, evil = "https://app.example", "https://evil.example"
    options = {"RANKCAST_SHARED": str(tmp_path), "RANKCAST_CORS": page}
    with web_tier(valkey_url, **options) as tier, httpx.Client(base_url=tier.url, timeout=60) as http:
        upload_url, file_url = initiated(http, headers={"Origin": page})

        def asked(origin: str) -> httpx.Response:
            headers = {
                "Origin": origin,
                "Access-Control-Request-Method": "PUT",
                "Access-Control-Request-Headers": "content-type",
            }
            return httpx.options(upload_url, headers=headers)

        def sent(origin: str) -> httpx.Response:
            headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site", "Content-Type": "image/png"}
            return httpx.put(upload_url, content=b"x", headers=headers)

        leave = asked(page)
        assert (leave.status_code, leave.headers["Access-Control-Allow-Origin"]) == (204, page)
        assert "PUT" in leave.headers["Access-Control-Allow-Methods"]
        assert "Content-Type" in leave.headers["Access-Control-Allow-Headers"]
        assert "Access-Control-Allow-Origin" not in asked(evil).headers
        refused(sent(evil), 403)
        assert httpx.get(file_url).status_code == 404
        assert sent(page).headers["Access-Control-Allow-Origin"] == page
        assert httpx.get(file_url).content == b"x"
