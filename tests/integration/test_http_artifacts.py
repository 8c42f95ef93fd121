"""What jobs stored, over HTTP: in ranges, as files and not as pages, and no way to any other file."""

import dataclasses
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import redis as redis_py
from jobs import SUCCESS, forget, running
from web_tier import WebTier, told, web_tier

from rankcast.tasks.artifacts import DirectoryArtifacts
from rankcast.tasks.catalog import Catalog, WorkerInfo
from rankcast.tasks.job import Claim
from rankcast.tasks.settings import Settings
from rankcast.tasks.shared import SharedFolder
from rankcast.tasks.store import JobStore

WORKER = WorkerInfo(
    worker_id="w1", host="gpu1", pid=7, started_ms=1_700_000_000_000, version="0.1.0", tasks=[], slots=[]
)
PNG = b"\x89PNG" + bytes(range(256))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> SharedFolder:
    return SharedFolder(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def tier(valkey_url: str, shared: SharedFolder) -> Iterator[WebTier]:
    with web_tier(valkey_url, RANKCAST_SHARED=str(shared.path), RANKCAST_HOST="web-1") as tier:
        yield tier


@pytest.fixture
def http(tier: WebTier, redis: redis_py.Redis) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=tier.url, timeout=30) as client:
        yield client


@pytest.fixture
def claim(store: JobStore) -> Claim:
    return running(store)


@pytest.fixture
def artifacts(shared: SharedFolder, claim: Claim) -> DirectoryArtifacts:
    """Those of the claim's job: a picture, and a page that would run."""
    store = shared.store(claim.deployment)
    store.put(claim.job_id, "7-1-a.png", lambda path: path.write_bytes(PNG))
    store.put(claim.job_id, "7-2-a.html", lambda path: path.write_text("<script>alert(1)</script>"))
    return store


@pytest.fixture
def base(claim: Claim, artifacts: DirectoryArtifacts) -> str:
    return f"/jobs/{claim.job_id}/artifacts"


def test_an_artifact_is_served_as_it_was_stored(http: httpx.Client, base: str):
    """It may be kept by the client alone, and its type is not to be guessed at."""
    response = http.get(f"{base}/7-1-a.png")
    assert (response.status_code, response.content) == (200, PNG)
    assert response.headers["Content-Type"] == "image/png"
    assert response.headers["Content-Length"] == str(len(PNG))
    assert response.headers["Content-Disposition"] == 'inline; filename="a.png"'
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "private, max-age=86400, immutable"
    assert "sandbox" in response.headers["Content-Security-Policy"]
    head = http.head(f"{base}/7-1-a.png")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(PNG))


@pytest.mark.parametrize(
    ("asked", "status", "content", "content_range"),
    [
        ("bytes=0-3", 206, PNG[:4], "bytes 0-3/260"),
        ("bytes=100-", 206, PNG[100:], "bytes 100-259/260"),
        ("bytes=-4", 206, PNG[-4:], "bytes 256-259/260"),
        ("bytes=250-9999", 206, PNG[250:], "bytes 250-259/260"),
        ("bytes=0-0,5-6", 200, PNG, None),
        ("lines=1-2", 200, PNG, None),
    ],
)
def test_a_range_is_answered_alone(
    http: httpx.Client, base: str, asked: str, status: int, content: bytes, content_range: str | None
):
    """RFC 9110, section 14; what this server does not know is as if it had not been asked."""
    response = http.get(f"{base}/7-1-a.png", headers={"Range": asked})
    assert (response.status_code, response.content) == (status, content)
    assert response.headers.get("Content-Range") == content_range
    assert response.headers["Accept-Ranges"] == "bytes"


def test_a_range_outside_is_refused(http: httpx.Client, base: str):
    response = http.get(f"{base}/7-1-a.png", headers={"Range": "bytes=260-"})
    told(response, 416, "requested-range-not-satisfiable")
    assert response.headers["Content-Range"] == "bytes */260"


def test_who_has_it_is_told_so(http: httpx.Client, base: str):
    """And a range of something else is not asked for."""
    etag = http.get(f"{base}/7-1-a.png").headers["ETag"]
    again = http.get(f"{base}/7-1-a.png", headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    part = {"Range": "bytes=0-3", "If-Range": etag}
    assert http.get(f"{base}/7-1-a.png", headers=part).status_code == 206
    assert http.get(f"{base}/7-1-a.png", headers={**part, "If-Range": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.html", "attachment"),
        ("a.svg", "attachment"),
        ("a.xml", "attachment"),
        ("a.xhtml", "attachment"),
        ("a.js", "attachment"),
        ("a.pdf", "attachment"),
        ("a.safetensors", "attachment"),
        ("a", "attachment"),
        ("a.webp", "inline"),
        ("a.mp4", "inline"),
        ("a.wav", "inline"),
        ("a.txt", "inline"),
        ("a.json", "inline"),
    ],
)
def test_what_a_browser_would_run_is_saved(
    http: httpx.Client, base: str, artifacts: DirectoryArtifacts, claim: Claim, name: str, how: str
):
    """Users' code wrote it, and perhaps from what somebody else said."""
    artifacts.put(claim.job_id, f"7-3-{name}", lambda path: path.write_bytes(b"<b>"))
    headers = http.get(f"{base}/7-3-{name}").headers
    assert headers["Content-Disposition"] == f'{how}; filename="{name}"'
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert not headers["Content-Type"].startswith("text/html") or how == "attachment"


@pytest.mark.parametrize(
    "path",
    [
        "7-1-b.png",
        ".owner",
        "..%2f..%2f..%2fserved",
        "%2e%2e/%2e%2e/%2e%2e/served",
        "../../../served",
        "7-1-..%2f..%2fserved",
        "%2fetc%2fhostname",
        "7-1-a.png%00",
        "7-1-a.png%0d%0aX-Evil:%201",
        "..\\..\\served",
        "7-1-" + "a" * 200,
    ],
)
def test_no_path_leads_to_another_file(tier: WebTier, redis: redis_py.Redis, base: str, path: str):
    """Sent as it stands: clients' libraries tidy such paths up."""
    address = urlsplit(tier.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as raw:
        raw.sendall(f"GET {base}/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.split(b" ", 2)[1] == b"404", answer
    assert b"X-Evil" not in answer.partition(b"\r\n\r\n")[0]
    assert PNG not in answer


def test_all_artifacts_of_a_job_are_listed(http: httpx.Client, base: str, claim: Claim):
    """As references, like those in events; the record says where."""
    assert http.get(base).json()["artifacts"] == [
        {
            "url": f"{base}/7-1-a.png",
            "content_type": "image/png",
            "file_name": "a.png",
            "file_size": 260,
        },
        {
            "url": f"{base}/7-2-a.html",
            "content_type": "text/html",
            "file_name": "a.html",
            "file_size": 25,
        },
    ]
    assert http.get(f"/jobs/{claim.job_id}").json()["urls"]["artifacts"] == base


def test_artifacts_go_with_their_job(
    http: httpx.Client, base: str, redis: redis_py.Redis, store: JobStore, claim: Claim
):
    """At the end of its time to live, not when somebody gets to remove them."""
    store.finish(claim, SUCCESS, 1)
    assert http.get(f"{base}/7-1-a.png").status_code == 200
    forget(redis, claim.job_id)
    told(http.get(f"{base}/7-1-a.png"), 404, "unknown-job")
    told(http.get(base), 404, "unknown-job")


def test_a_worker_with_another_folder_is_told_by_name(
    http: httpx.Client, base: str, shared: SharedFolder, redis: redis_py.Redis, settings: Settings
):
    """Where people look: at what is not there, and at the workers."""
    catalog = Catalog(redis, settings)
    catalog.heartbeat(dataclasses.replace(WORKER, folder_id=shared.id()))
    assert http.get("/workers").json()["workers"][0]["shares_folder"] is True
    detail = told(http.get(f"{base}/7-9-a.png"), 404, "unknown-artifact")["detail"]
    assert "--shared" not in detail
    catalog.heartbeat(dataclasses.replace(WORKER, worker_id="w2", host="gpu-7", folder_id="another"))
    detail = told(http.get(f"{base}/7-9-a.png"), 404, "unknown-artifact")["detail"]
    assert "gpu-7 store in another folder" in detail
    assert "gpu1" not in detail
    shares = {each["host"]: each["shares_folder"] for each in http.get("/workers").json()["workers"]}
    assert shares == {"gpu1": True, "gpu-7": False}


def test_a_web_tier_without_a_folder_says_what_to_do(web: str, store: JobStore, claim: Claim):
    told_404 = told(httpx.get(f"{web}/jobs/{claim.job_id}/artifacts/7-1-a.png"), 404, "unknown-artifact")
    assert "--shared" in told_404["detail"]
    assert httpx.get(f"{web}/jobs/{claim.job_id}/artifacts").json()["artifacts"] == []


def test_a_large_artifact_costs_little_and_holds_nobody_up(
    http: httpx.Client, tier: WebTier, base: str, artifacts: DirectoryArtifacts, claim: Claim
):
    """200 MiB to a client that reads slowly: others are answered meanwhile."""
    size = 200 * 1024 * 1024

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    artifacts.put(claim.job_id, "7-5-large.bin", write)
    (process,) = psutil.Process(tier.process.pid).children()
    before = process.memory_info().rss
    digest, most = hashlib.sha256(), 0
    with httpx.stream("GET", f"{tier.url}{base}/7-5-large.bin", timeout=30) as response:
        for number, chunk in enumerate(response.iter_bytes(1 << 20)):
            digest.update(chunk)
            if number % 50 == 0:
                assert http.get("/healthz").status_code == 200
                most = max(most, process.memory_info().rss)
    assert digest.digest() == hashlib.sha256(bytes(size)).digest()
    assert most - before < 50 * 1024 * 1024
