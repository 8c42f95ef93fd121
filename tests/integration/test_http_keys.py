"""Who may do what, over HTTP: every route, every scope, everybody else's jobs."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import flask
import httpx
import pytest
import redis as redis_py
from api_keys import Holder, give, revoke
from click.testing import CliRunner
from helpers import wait_until
from jobs import SUCCESS, TASK, owned_by, running, submit
from web_tier import Watch, WebTier, web_tier

from rankcast.cli import main
from rankcast.tasks.catalog import Catalog, SlotInfo, TaskInfo, WorkerInfo
from rankcast.tasks.keyuse import KeyUse
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore
from rankcast.web import auth, tokens
from rankcast.web.app import create_app
from rankcast.web.keyring import Scope, draw, read_keys
from rankcast.web.settings import WebSettings

ASKED = {"task": TASK, "input": {"prompt": "x"}}


class Deployment(NamedTuple):
    """Two web processes with one file of keys, and who has one."""

    webs: tuple[WebTier, WebTier]
    path: Path
    alice: Holder
    bob: Holder
    reader: Holder
    submitter: Holder
    admin: Holder
    revoked: Holder


@pytest.fixture(scope="module")
def keyed(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    path = tmp_path_factory.mktemp("deployment") / "keys"
    alice, bob, gone = (give(path, name) for name in ("alice", "bob", "gone"))
    reader, submitter, admin = (give(path, name, [name]) for name in ("read", "submit", "admin"))
    revoke(path, gone)
    with ExitStack() as stack:
        first, second = (stack.enter_context(web_tier(valkey_url, RANKCAST_KEYS=str(path))) for _ in range(2))
        yield Deployment((first, second), path, alice, bob, reader, submitter, admin, gone)


@pytest.fixture
def http(keyed: Deployment, task: TaskInfo) -> Iterator[httpx.Client]:
    """A client that shows no key by itself."""
    with httpx.Client(base_url=keyed.webs[0].url, timeout=30) as client:
        yield client


@pytest.fixture
def task(redis: redis_py.Redis, settings: Settings) -> TaskInfo:
    """`acme/steps`, registered; of a web tier of this module alone."""
    steps = TaskInfo(name=TASK, input_schema={"type": "object"})
    Catalog(redis, settings).register([steps])
    return steps


#: What fal's routes call it.
FALS = {"unauthorized": "key-needed", "forbidden": "scope-missing"}


def told(response: httpx.Response) -> tuple[int, str]:
    """Status and kind of a refusal."""
    body = response.json()
    kind = FALS[body["error_type"]] if "error_type" in body else body["type"]
    return response.status_code, kind.removeprefix("urn:rankcast:problem:")


#: What answers anybody: whether the process lives, the JavaScript client, which has no secrets, and the
#: refusal of what fal's proxy cannot place.
OPEN = frozenset({"/healthz", "/static/<name>", "/api/fal/proxy"})


def routes(job_id: str) -> list[tuple[str, str, str]]:
    """Every (rule, method, path) of the app, the methods that Flask adds by itself included."""
    values = {"job_id": job_id, "owner": "acme", "name": "steps", "file_id": "0" * 32}
    values |= {"path:app": "acme/steps", "path:name": "acme/steps"}
    found = []
    for rule in create_app(WebSettings()).url_map.iter_rules():
        path = rule.rule
        for name, value in values.items():
            path = path.replace(f"<{name}>", value)
        found += [(rule.rule, method, path) for method in sorted(rule.methods or ())]
    return found


# Without a key


def test_no_route_but_healthz_answers_without_a_key(http: httpx.Client, keyed: Deployment, store: JobStore):
    """Found by a walk over the URL map, asked of a real server; a token or a revoked key is no key either."""
    job_id = owned_by(store, keyed.alice.id)
    asked = routes(job_id)
    assert {rule for rule, *_ in asked} >= {
        "/jobs",
        "/jobs/<job_id>/stream",
        "/stream",
        "/workers",
        "/readyz",
    }
    wrong = [
        {},
        keyed.revoked.headers,
        {"Authorization": f"Basic {keyed.alice.text}"},
        {"Authorization": f"Key {keyed.alice.text[:-1]}"},
        {"Authorization": "Key"},
        {"Authorization": ""},
        {"Authorization": keyed.alice.text},
        {"Cookie": f"key={keyed.alice.text}", "X-Api-Key": keyed.alice.text},
    ]
    for rule, method, path in asked:
        for headers in wrong:
            response = http.request(method, path, headers=headers)
            if rule in OPEN:
                assert response.status_code != 401
                continue
            assert response.status_code == 401, (method, path, headers)
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="rankcast", Key realm="rankcast"'
            if method != "HEAD":
                assert told(response) == (401, "key-needed")
    assert store.record(job_id).state == JobState.QUEUED
    assert len(store.list().records) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/nothing"), ("DELETE", "/jobs"), ("GET", "//jobs"), ("PUT", "/healthz")],
)
def test_what_is_no_route_is_told_only_to_who_has_a_key(
    http: httpx.Client, keyed: Deployment, method: str, path: str
):
    """Whichever key: then it is 404, 405 or a redirect as ever."""
    assert told(http.request(method, path)) == (401, "key-needed")
    assert http.request(method, path, headers=keyed.submitter.headers).status_code in (404, 405, 308)


@pytest.mark.parametrize("scheme", ["Key", "key", "Bearer", "BEARER"])
def test_both_schemes_carry_a_key(http: httpx.Client, keyed: Deployment, scheme: str):
    """RFC 9110, section 11.1: a scheme has no case."""
    headers = {"Authorization": f"{scheme} {keyed.alice.text}"}
    assert http.get("/tasks", headers=headers).status_code == 200


def test_a_key_may_stand_behind_an_id(http: httpx.Client, keyed: Deployment):
    """As fal's keys do, `id:secret`: its package takes no others. The id says nothing."""
    status = {
        text: http.get("/tasks", headers={"Authorization": f"Key {text}"}).status_code
        for text in (f"any:{keyed.alice.text}", f":{keyed.alice.text}", f"{keyed.alice.text}:any", "any:")
    }
    assert list(status.values()) == [200, 200, 401, 401]


def test_who_has_no_key_costs_nothing(tmp_path: Path):
    """Refused before Redis is asked, which is away here, and before a body is read, which never comes."""
    path = tmp_path / "keys"
    alice = give(path, "alice")
    with web_tier("redis://127.0.0.1:1/0", RANKCAST_KEYS=str(path)) as web:
        assert told(httpx.post(f"{web.url}/jobs", json=ASKED)) == (401, "key-needed")
        assert told(httpx.post(f"{web.url}/jobs", json=ASKED, headers=alice.headers)) == (503, "redis-away")
        address = urlsplit(web.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as raw:
            raw.sendall(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n")
            assert raw.recv(1024).startswith(b"HTTP/1.1 401 ")


def test_a_file_that_breaks_under_a_running_server_lets_nobody_in(
    valkey_url: str, tmp_path: Path, redis: redis_py.Redis
):
    """503, not an open door; and everybody again once it is whole. Where it lies is told to the log alone."""
    path = tmp_path / "keys"
    alice = give(path, "alice")
    with web_tier(valkey_url, RANKCAST_KEYS=str(path)) as web:
        assert httpx.get(f"{web.url}/tasks", headers=alice.headers).status_code == 200
        path.chmod(0o644)
        refused = httpx.get(f"{web.url}/tasks", headers=alice.headers)
        assert told(refused) == (503, "keys-unreadable")
        assert str(path) not in refused.text
        assert httpx.get(f"{web.url}/tasks").status_code == 401
        path.chmod(0o600)
        assert httpx.get(f"{web.url}/tasks", headers=alice.headers).status_code == 200
        path.unlink()
        assert httpx.get(f"{web.url}/tasks", headers=alice.headers).status_code == 503


def test_a_key_counts_from_its_creation_to_its_revocation(http: httpx.Client, keyed: Deployment):
    """In a server that runs: no restart, no waiting. Others stay."""
    late = give(keyed.path, "late")
    assert http.get("/tasks", headers=late.headers).status_code == 200
    revoke(keyed.path, late)
    assert told(http.get("/tasks", headers=late.headers)) == (401, "key-needed")
    assert http.get("/tasks", headers=keyed.alice.headers).status_code == 200


def test_revoked_keys_alone_open_nothing(valkey_url: str, tmp_path: Path, redis: redis_py.Redis):
    """Who took the last key away did not mean to let everybody in."""
    path = tmp_path / "keys"
    revoke(path, give(path, "alice"))
    with web_tier(valkey_url, RANKCAST_KEYS=str(path)) as web:
        assert httpx.get(f"{web.url}/tasks").status_code == 401


def test_a_route_without_a_rule_is_an_error_when_the_app_is_made():
    """Whoever adds one must say who may use it."""
    app = flask.Flask("another", static_folder=None)
    app.add_url_rule("/forgotten", view_func=lambda: "")
    with pytest.raises(ValueError, match="/forgotten"):
        auth.check_routes(app)


# Scopes


SUBMIT_ROUTES = {
    ("/jobs", "POST"),
    ("/jobs/<job_id>/cancel", "POST"),
    ("/files", "POST"),
    ("/stream", "POST"),
    ("/run/<path:app>", "POST"),
    ("/rest/tokens", "POST"),
    ("/rest/storage/auth/token", "POST"),
    ("/rest/storage/upload/initiate", "POST"),
    ("/rest/storage/upload/initiate-multipart", "POST"),
    ("/cdn/files/upload", "POST"),
    ("/cdn/files/upload/multipart", "POST"),
    ("/cdn/files/<file_id>/<name>", "PUT"),
    ("/queue/<path:app>", "POST"),
    ("/queue/<path:app>/requests/<job_id>/cancel", "PUT"),
}


def test_each_scope_opens_its_routes_and_no_others(http: httpx.Client, keyed: Deployment, store: JobStore):
    """POST and PUT are submit's, GET is read's; the refusal names what is missing."""
    for rule, method, path in routes(submit(store)):
        if method == "OPTIONS" or rule in OPEN:
            continue
        needed, lacking = (
            ("submit", keyed.reader) if (rule, method) in SUBMIT_ROUTES else ("read", keyed.submitter)
        )
        assert method in ({"POST", "PUT"} if needed == "submit" else {"GET", "HEAD"})
        response = http.request(method, path, headers=lacking.headers)
        assert response.status_code == 403, (method, path)
        if method != "HEAD":
            assert told(response) == (403, "scope-missing")
            assert response.json().get("needed", needed) == needed
            assert response.json()["detail"] == f"this API key lacks the scope {needed}"


def test_the_command_submits_with_a_key_that_may_do_nothing_else(keyed: Deployment):
    """It reads the task's schema where it may; the server checks the input in any case."""
    env = {"RANKCAST_URL": keyed.webs[0].url, "RANKCAST_KEY": keyed.submitter.text}
    done = CliRunner().invoke(main, ["submit", TASK, "prompt=x"], env=env)
    assert done.exit_code == 0, done.output


def test_with_the_scope_it_works(http: httpx.Client, keyed: Deployment, store: JobStore):
    """A key that may only submit can cancel what it submitted, and one that may only read has a list."""
    made = http.post("/jobs", json=ASKED, headers=keyed.submitter.headers)
    assert made.status_code == 202
    assert "token" not in made.text
    assert store.owner(made.json()["job_id"]) == keyed.submitter.id
    assert http.post(made.json()["urls"]["cancel"], headers=keyed.submitter.headers).status_code in (200, 202)
    assert http.get("/jobs", headers=keyed.reader.headers).json() == {"jobs": [], "cursor": None}


# Whose job


def about(job_id: str) -> list[tuple[str, str]]:
    """Every call that names a job."""
    return [
        (method, path) for rule, method, path in routes(job_id) if "<job_id>" in rule and method != "OPTIONS"
    ]


def test_a_job_is_there_for_its_key_and_for_an_admins(http: httpx.Client, keyed: Deployment, store: JobStore):
    for holder in (keyed.alice, keyed.admin):
        claim = running(store, owned_by(store, keyed.alice.id))
        store.finish(claim, SUCCESS, 1)
        calls = about(claim.job_id)
        assert len(calls) >= 9
        for method, path in calls:
            # It has stored nothing under the name that stands for any; and fal's cancel says that it is late.
            found = http.request(method, path, headers=holder.headers).status_code
            expected = 404 if "/artifacts/" in path else 400 if method == "PUT" else 200
            assert found == expected, (method, path)


def test_a_foreign_job_is_as_unknown_as_one_that_never_was(
    http: httpx.Client, keyed: Deployment, store: JobStore
):
    """The same answer to the byte, whatever is asked; a job that nobody owns is nobody's, too."""
    never = "0" * 32
    for job_id in (owned_by(store, keyed.alice.id), submit(store)):
        for (method, path), (_, path_of_none) in zip(about(job_id), about(never), strict=True):
            found = http.request(method, path, headers=keyed.bob.headers)
            expected = http.request(method, path_of_none, headers=keyed.bob.headers)
            assert found.status_code == expected.status_code == 404
            assert found.text.replace(job_id, never) == expected.text
        assert store.record(job_id).state == JobState.QUEUED
        assert not store.record(job_id).is_cancel_requested


def test_a_list_shows_ones_own_jobs_and_an_admin_all(http: httpx.Client, keyed: Deployment, store: JobStore):
    """With every filter, over pages."""
    mine = [owned_by(store, keyed.alice.id) for _ in range(3)]
    theirs, nobodys = owned_by(store, keyed.bob.id), submit(store)

    def listed(holder: Holder, **params: str) -> list[str]:
        found: list[str] = []
        while True:
            page = http.get("/jobs", params=params, headers=holder.headers).json()
            found += [job["job_id"] for job in page["jobs"]]
            if page["cursor"] is None:
                return found
            params["cursor"] = page["cursor"]

    assert listed(keyed.alice, limit="2") == mine[::-1]
    assert listed(keyed.alice, task=TASK, state="queued", limit="1") == mine[::-1]
    assert listed(keyed.bob, task=TASK) == [theirs]
    assert listed(keyed.admin) == [nobodys, theirs, *mine[::-1]]


def test_workers_show_no_foreign_job(
    http: httpx.Client, keyed: Deployment, store: JobStore, redis: redis_py.Redis, settings: Settings
):
    """That a slot is busy, and how long the queues are, is everybody's to know."""
    mine, theirs = (running(store, owned_by(store, each.id)).job_id for each in (keyed.alice, keyed.bob))
    slots = [
        SlotInfo(index=index, devices=[], state="busy", warm=TASK, job_id=job_id)
        for index, job_id in enumerate([mine, theirs, None])
    ]
    Catalog(redis, settings).heartbeat(
        WorkerInfo(worker_id="w", host="h", pid=1, started_ms=1, version="0", tasks=[TASK], slots=slots)
    )

    def shown(holder: Holder) -> list[Any]:
        status = http.get("/workers", headers=holder.headers).json()
        assert status["queues"] == [{"task": TASK, "queued": 0, "running": 2}]
        [worker] = status["workers"]
        assert [slot["state"] for slot in worker["slots"]] == ["busy"] * 3
        return [slot["job_id"] for slot in worker["slots"]]

    assert shown(keyed.alice) == [mine, None, None]
    assert shown(keyed.reader) == [None, None, None]
    assert shown(keyed.admin) == [mine, theirs, None]


def test_an_idempotency_key_is_of_one_api_key(http: httpx.Client, keyed: Deployment):
    """Two who happen to draw the same do not meet, and do not learn of each other."""
    sent = {"Idempotency-Key": "order 17"}
    first, again, other = (
        http.post("/jobs", json=ASKED, headers=sent | holder.headers)
        for holder in (keyed.alice, keyed.alice, keyed.bob)
    )
    assert again.json()["job_id"] == first.json()["job_id"] != other.json()["job_id"]
    assert (again.headers.get("Idempotency-Replayed"), other.headers.get("Idempotency-Replayed")) == (
        "true",
        None,
    )


def test_a_direct_stream_is_of_who_asked_for_it(keyed: Deployment, task: TaskInfo, store: JobStore):
    """Its job belongs to the key, and its headers have no token."""
    watch = Watch(keyed.webs[0].url, f"/run/{TASK}/stream", post={"prompt": "x"}, headers=keyed.alice.headers)
    job_id = watch.headers["X-Rankcast-Job-Id"]
    assert store.owner(job_id) == keyed.alice.id
    assert watch.headers["Link"] == f'</jobs/{job_id}/stream>; rel="monitor"'
    store.cancel(job_id)
    watch.to_break()


# Tokens of streams


def stream_url(http: httpx.Client, holder: Holder) -> tuple[str, str]:
    """A new job, and the URL of its stream as the answer to its submit tells it."""
    made = http.post("/jobs", json=ASKED, headers=holder.headers)
    assert "token" not in made.headers["Location"]
    return made.json()["job_id"], made.json()["urls"]["stream"]


def token_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["token"][0]


def test_the_stream_url_of_a_submit_needs_no_header(http: httpx.Client, keyed: Deployment, store: JobStore):
    """As EventSource asks for it, at any process; and it comes back to it with its cursor, to the end."""
    job_id, url = stream_url(http, keyed.alice)
    for web in keyed.webs:
        watch = Watch(web.url, url)
        assert watch.status == 200
        assert watch.until(1)[0].json["state"] == "queued"
        watch.leave()
    assert http.head(url).status_code == 200
    store.cancel(job_id)
    again = Watch(keyed.webs[1].url, url, headers={"Last-Event-ID": "0-1"})
    [end] = again.to_end()
    assert end.json["state"] == "cancelled"
    assert http.get(url, headers={"Last-Event-ID": end.id}).status_code == 204


def test_a_token_is_refused_anywhere_else(http: httpx.Client, keyed: Deployment, store: JobStore):
    """On every other route, on another job's stream, and as a key."""
    job_id, url = stream_url(http, keyed.alice)
    other, _ = stream_url(http, keyed.alice)
    token = token_of(url)
    for rule, method, path in [
        *routes(job_id),
        ("", "GET", f"/jobs/{other}/stream"),
        ("", "GET", "/nothing"),
    ]:
        if rule in OPEN or (rule == "/jobs/<job_id>/stream" and method in ("GET", "HEAD")):
            continue
        assert http.request(method, path, params={"token": token}).status_code == 401, (method, path)
    for headers in ({"Authorization": f"Bearer {token}"}, {"Authorization": f"Key {token}"}):
        assert http.get(f"/jobs/{job_id}/stream", headers=headers).status_code == 401
        assert http.get(f"/jobs/{job_id}", headers=headers).status_code == 401
    assert store.record(job_id).state == JobState.QUEUED


def test_a_token_dies_with_its_key_and_with_its_time(http: httpx.Client, keyed: Deployment):
    """401, which ends an EventSource; the record has a new one for who has a key."""
    late = give(keyed.path, "late")
    job_id, url = stream_url(http, late)
    assert http.head(url).status_code == 200
    [key] = [key for key in read_keys(keyed.path) if key.id == late.id]
    old = tokens.sign(key, tokens.STREAM, job_id, time.time() - 1)
    assert told(http.get(f"/jobs/{job_id}/stream", params={"token": old})) == (401, "key-needed")
    renewed = http.get(f"/jobs/{job_id}", headers=late.headers).json()["urls"]["stream"]
    assert http.head(renewed).status_code == 200
    revoke(keyed.path, late)
    for each in (url, renewed):
        assert told(http.get(each)) == (401, "key-needed")


def test_a_token_opens_no_job_that_its_key_may_not_see(
    http: httpx.Client, keyed: Deployment, store: JobStore
):
    """Whoever signed it, and an admin's opens all."""
    job_id = owned_by(store, keyed.alice.id)
    of = {key.id: key for key in read_keys(keyed.path)}
    url, soon = f"/jobs/{job_id}/stream", time.time() + 60
    assert (
        http.head(
            url, params={"token": tokens.sign(of[keyed.admin.id], tokens.STREAM, job_id, soon)}
        ).status_code
        == 200
    )
    assert (
        http.get(
            url, params={"token": tokens.sign(of[keyed.bob.id], tokens.STREAM, job_id, soon)}
        ).status_code
        == 404
    )
    assert (
        http.get(
            url, params={"token": tokens.sign(of[keyed.submitter.id], tokens.STREAM, job_id, soon)}
        ).status_code
        == 403
    )
    stranger, _ = draw("stranger", {Scope.ADMIN})
    assert (
        http.get(url, params={"token": tokens.sign(stranger, tokens.STREAM, job_id, soon)}).status_code == 401
    )


def test_only_where_it_is_needed_an_answer_has_a_token(http: httpx.Client, keyed: Deployment):
    """A list, a cancel and a problem name the stream, and give nobody else the right to it."""
    job_id, url = stream_url(http, keyed.alice)
    assert url.startswith(f"/jobs/{job_id}/stream?token=")
    shown = http.get(f"/jobs/{job_id}", headers=keyed.alice.headers)
    assert "?token=" in shown.json()["urls"]["stream"]
    for answer in (
        http.get("/jobs", headers=keyed.alice.headers),
        http.get(f"/jobs/{job_id}/result", headers=keyed.alice.headers),
        http.post(f"/jobs/{job_id}/cancel", headers=keyed.alice.headers),
    ):
        assert "/stream" in answer.text
        assert "token" not in answer.text


# When it was used


def test_it_is_noted_when_a_key_was_used_last(http: httpx.Client, keyed: Deployment, redis: redis_py.Redis):
    """In Redis, for all processes together; a key that was refused was not used."""
    holder = give(keyed.path, "new")
    unused = give(keyed.path, "unused")
    http.get("/tasks", headers=holder.headers)
    http.get("/tasks", headers={"Authorization": f"Key rk_{unused.id}_0"})
    found = wait_until(lambda: holder.id in KeyUse(redis).all() and KeyUse(redis).all(), "the use is noted")
    assert abs(found[holder.id].timestamp() - time.time()) < 60
    assert unused.id not in found
