"""Web pages: which may use the server, and what a hostile one cannot do with its visitor's browser."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from api_keys import Holder, give
from jobs import TASK, submit
from web_tier import web_tier

from rankcast.tasks.catalog import TaskInfo
from rankcast.tasks.store import JobStore

PAGE, OTHER_PAGE, EVIL = "https://app.example", "http://localhost:5173", "https://evil.example"
ASKED = {"task": TASK, "input": {"prompt": "x"}}
#: What a form or a fetch without CORS may send from any page.
SIMPLE = {"Content-Type": "text/plain"}
#: Beside what the others send and read: fal's client on a page.
SENT_BY_FALS = {
    "x-fal-target-url",
    "x-fal-queue-priority",
    "x-fal-runner-hint",
    "x-fal-request-timeout",
    "x-fal-request-start-timeout",
    "x-fal-object-lifecycle",
    "x-fal-object-lifecycle-preference",
}
READ_BY_FALS = {"x-fal-request-id", "x-fal-error-type", "x-fal-request-timeout-type"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deployment") / "keys"


@pytest.fixture(scope="module")
def alice(path: Path) -> Holder:
    return give(path, "alice")


@pytest.fixture(scope="module")
def cors_url(valkey_url: str, path: Path, alice: Holder) -> Iterator[str]:
    """With keys, and two pages that may use it."""
    with web_tier(valkey_url, RANKCAST_KEYS=str(path), RANKCAST_CORS=f"{PAGE} {OTHER_PAGE}") as web:
        yield web.url


@pytest.fixture(scope="module")
def open_cors_url(valkey_url: str) -> Iterator[str]:
    """Without keys, meant for others too, and one page that may use it."""
    with web_tier(valkey_url, RANKCAST_OPEN="1", RANKCAST_CORS=PAGE) as web:
        yield web.url


@pytest.fixture
def cors(cors_url: str, task: TaskInfo) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=cors_url, timeout=30) as client:
        yield client


@pytest.fixture
def open_cors(open_cors_url: str, task: TaskInfo) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=open_cors_url, timeout=30) as client:
        yield client


@pytest.fixture
def keyless(web: str) -> Iterator[httpx.Client]:
    """As `rankcast web` starts it by default."""
    with httpx.Client(base_url=web, timeout=30) as client:
        yield client


def cors_headers(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


def preflight(client: httpx.Client, origin: str, path: str = "/jobs") -> httpx.Response:
    """As a browser asks before it sends a key, JSON or a cursor."""
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key,last-event-id",
    }
    return client.options(path, headers=asked)


# CORS


@pytest.mark.parametrize("origin", [PAGE, OTHER_PAGE])
def test_a_named_page_may_send_what_a_client_needs_and_read_what_it_gets(
    cors: httpx.Client, alice: Holder, origin: str
):
    """A preflight has no key; the request after it has. Never with cookies."""
    asked = preflight(cors, origin)
    assert asked.status_code == 204
    assert asked.headers["Access-Control-Allow-Origin"] == origin
    allowed = {name.strip().lower() for name in asked.headers["Access-Control-Allow-Headers"].split(",")}
    assert allowed == {"authorization", "content-type", "idempotency-key", "last-event-id"} | SENT_BY_FALS
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    made = cors.post("/jobs", json=ASKED, headers={**alice.headers, "Origin": origin})
    assert made.status_code == 202
    assert made.headers["Access-Control-Allow-Origin"] == origin
    exposed = {name.strip() for name in made.headers["Access-Control-Expose-Headers"].split(",")}
    assert exposed == {"Location", "Retry-After", "X-Rankcast-Job-Id", "Link"} | READ_BY_FALS
    for response in (asked, made):
        assert "Origin" in response.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in response.headers


def test_a_named_page_can_read_a_refusal(cors: httpx.Client, alice: Holder):
    """Without the header it would learn nothing but that something failed."""
    for path, headers, status in (
        ("/jobs", {}, 401),
        ("/jobs/x", alice.headers, 404),
        ("/nothing", alice.headers, 404),
    ):
        refused = cors.get(path, headers={**headers, "Origin": PAGE})
        assert refused.status_code == status
        assert refused.headers["Access-Control-Allow-Origin"] == PAGE


def test_a_named_page_watches_a_stream_with_its_token(cors: httpx.Client, alice: Holder):
    """A cross-origin EventSource."""
    url = cors.post("/jobs", json=ASKED, headers=alice.headers).json()["urls"]["stream"]
    watched = cors.head(url, headers={"Origin": PAGE})
    assert (watched.status_code, watched.headers["Access-Control-Allow-Origin"]) == (200, PAGE)


@pytest.mark.parametrize(
    "origin", [EVIL, "null", f"{PAGE}.evil.example", f"{PAGE}:444", "http://app.example", f"{PAGE}/", "*", ""]
)
def test_any_other_page_is_told_nothing(cors: httpx.Client, alice: Holder, origin: str):
    """Exact: no part of a name, no other port, no other scheme; and a cache may not mix the answers up."""
    asked = preflight(cors, origin)
    assert asked.status_code == 401
    shown = cors.get("/tasks", headers={**alice.headers, "Origin": origin})
    assert shown.status_code == 200
    for response in (asked, shown):
        assert cors_headers(response) == {}
        assert "Origin" in response.headers["Vary"]


def test_cors_is_off_unless_it_is_asked_for(keyless: httpx.Client):
    assert cors_headers(preflight(keyless, PAGE)) == {}
    assert cors_headers(keyless.get("/tasks", headers={"Origin": PAGE})) == {}
    assert "Vary" not in keyless.get("/tasks").headers


# Hostile pages, and a server without keys


@pytest.mark.parametrize(
    "sent",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/jobs", f"/run/{TASK}/stream", "/stream", "/jobs/ID/cancel"])
def test_a_foreign_page_changes_nothing(
    keyless: httpx.Client, store: JobStore, path: str, sent: dict[str, str]
):
    """A form or a fetch without CORS reaches any server; the browser says where it comes from."""
    job_id = submit(store)
    refused = keyless.post(path.replace("ID", job_id), json=ASKED, headers={**SIMPLE, **sent})
    assert refused.status_code == 403
    told = refused.json()
    assert told.get("type", told.get("error_type")) in ("urn:rankcast:problem:foreign-request", "forbidden")
    assert "--cors" in refused.json()["detail"]
    [record] = store.list().records
    assert not record.is_cancel_requested


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"Origin": "OWN"},
        {"Origin": "OWN", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        # A proxy that took TLS off and the public name away: the browser knows that it is the same.
        {"Origin": "https://rankcast.example.com", "Sec-Fetch-Site": "same-origin"},
        # A proxy that took TLS off and left the name.
        {"Origin": "https://localhost", "Host": "localhost"},
    ],
)
def test_a_page_of_its_own_and_who_is_no_browser_may_submit(keyless: httpx.Client, sent: dict[str, str]):
    """curl, httpx and every other program send neither header."""
    headers = {name: value.replace("OWN", str(keyless.base_url).rstrip("/")) for name, value in sent.items()}
    assert keyless.post("/jobs", json=ASKED, headers=headers).status_code == 202


def test_a_page_that_was_named_may_submit_without_keys(open_cors: httpx.Client):
    headers = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}
    assert open_cors.post("/jobs", json=ASKED, headers=headers).status_code == 202
    assert open_cors.post("/jobs", json=ASKED, headers={"Origin": EVIL}).status_code == 403


def test_with_keys_a_page_cannot_borrow_one(cors: httpx.Client, alice: Holder):
    """There is no cookie to go along; who shows a key by itself may come from anywhere."""
    assert cors.post("/jobs", json=ASKED, headers={**SIMPLE, "Origin": EVIL}).status_code == 401
    headers = {**alice.headers, "Origin": EVIL, "Host": "rankcast.example.com"}
    assert cors.post("/jobs", json=ASKED, headers=headers).status_code == 202


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8700", "10.0.0.5:8700", "localhost.evil.example", "[2001:db8::1]:8700"],
)
def test_a_name_that_was_made_to_mean_this_machine_is_refused(keyless: httpx.Client, host: str, method: str):
    """DNS rebinding: to the browser, page and server are one, and it would let the page read all."""
    refused = keyless.request(method, "/jobs", headers={"Host": host})
    assert refused.status_code == 403
    if method != "HEAD":
        assert "--open" in refused.json()["detail"]
    assert keyless.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:8700", "rankcast.localhost"]
)
def test_every_name_of_this_machine_is_taken(keyless: httpx.Client, host: str):
    """Also with the port of a tunnel or a proxy."""
    assert keyless.get("/tasks", headers={"Host": host}).status_code == 200


def test_a_server_that_is_meant_for_others_takes_every_name(open_cors: httpx.Client, cors: httpx.Client):
    """With --open, and with keys: then it is the key that counts."""
    assert open_cors.get("/tasks", headers={"Host": "rankcast.example.com"}).status_code == 200
    assert cors.get("/tasks", headers={"Host": "rankcast.example.com"}).status_code == 401
