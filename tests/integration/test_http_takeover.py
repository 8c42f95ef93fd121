"""What is true of streams whose sockets were taken over, beside all that is true of any stream."""

import contextlib
import itertools
import re
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis as redis_py
from api_keys import give, revoke
from helpers import wait_until
from jobs import SUCCESS, TASK, append, ids, running
from web_tier import BOTH_WAYS, Watch, WebTier, needs_take_over, told, web_tier
from werkzeug.test import EnvironBuilder

from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import JobOptions
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore
from rankcast.web.admissions import IDLE
from rankcast.web.app import create_app
from rankcast.web.settings import WebSettings

MOST = 5
VIEWERS = 30


@pytest.fixture(scope="module", params=BOTH_WAYS)
def small_tier(request: pytest.FixtureRequest, valkey_url: str) -> Iterator[WebTier]:
    """A process that has few streams."""
    with web_tier(valkey_url, RANKCAST_TAKE_OVER=request.param, RANKCAST_MAX_STREAMS=str(MOST)) as web:
        yield web


@pytest.fixture(scope="module")
def silent_tier(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WebTier, Path]]:
    """No keepalive, which would find a client that is gone; and an access log."""
    lines = tmp_path_factory.mktemp("web") / "access.log"
    log = f"--access-logfile {lines}"
    with web_tier(valkey_url, RANKCAST_KEEPALIVE_S="600", GUNICORN_CMD_ARGS=log) as web:
        yield web, lines


def followed(redis: redis_py.Redis, job_id: str) -> bool:
    return bool(redis.pubsub_numsub(JobKeys(job_id).live)[0][1])


def clients(web: WebTier) -> list[Any]:
    """Every descriptor of a connection that a client has made, and that is not closed at this end."""
    port = int(web.url.rpartition(":")[2])
    return [
        each
        for process in psutil.Process(web.process.pid).children()
        for each in process.net_connections("tcp")
        if each.laddr.port == port and each.raddr
    ]


def lines_of(log: Path, job_id: str, count: int) -> list[str]:
    """Of an access log, those of a job: so many, once its clients have seen the end, and no more."""

    def found() -> list[str]:
        return [line for line in log.read_text().splitlines() if job_id in line]

    wait_until(lambda: len(found()) >= count, "its lines in the access log")
    assert len(found()) == count
    return found()


@needs_take_over
def test_a_client_that_hangs_up_in_silence_is_gone_at_once(
    silent_tier: tuple[WebTier, Path], redis: redis_py.Redis, store: JobStore
) -> None:
    """Nothing is written to it that would find out."""
    web, _ = silent_tier
    claim = running(store)
    watches = [Watch(web.url, f"/jobs/{claim.job_id}/stream") for _ in range(VIEWERS)]
    for watch in watches:
        watch.until(2)
    assert followed(redis, claim.job_id)
    assert len(clients(web)) >= VIEWERS
    for watch in watches:
        watch.leave()
    wait_until(lambda: not followed(redis, claim.job_id), "the end of the subscription")
    wait_until(lambda: not clients(web), "the end of their descriptors")


def test_the_access_log_tells_of_a_stream_when_it_ends(
    silent_tier: tuple[WebTier, Path], store: JobStore, event_log: EventLog
) -> None:
    """One line, with all the bytes that were sent."""
    web, lines = silent_tier
    claim = running(store)
    watch = Watch(web.url, f"/jobs/{claim.job_id}/stream")
    watch.until(2)
    append(event_log, claim, 2, b'"%b"' % (b"x" * 50_000))
    watch.until(3)
    assert claim.job_id not in lines.read_text()
    store.finish(claim, SUCCESS, 2)
    watch.to_end()
    found = lines_of(lines, claim.job_id, 1)
    status, size = re.findall(r'" (\d+) (\d+) ', found[0])[0]
    assert status == "200"
    assert 50_000 < int(size) < 60_000


def test_who_is_let_in_as_another_has_a_line_of_its_own_in_the_access_log(
    silent_tier: tuple[WebTier, Path], store: JobStore
) -> None:
    """With what it sent, though nobody but the log looked at that."""
    web, lines = silent_tier
    claim = running(store)
    agents = [f"viewer-{number}" for number in range(3)]
    watches = [Watch(web.url, f"/jobs/{claim.job_id}/stream", headers={"User-Agent": one}) for one in agents]
    for watch in watches:
        watch.until(2)
    store.finish(claim, SUCCESS, 1)
    for watch in watches:
        watch.to_end()
    found = lines_of(lines, claim.job_id, len(agents))
    told = [re.fullmatch(r'127\.0\.0\.1 .*"GET (\S+) HTTP/1.1" 200 (\d+) "-" "(.*)"', line) for line in found]
    assert all(told), found
    assert sorted(line[3] for line in told if line) == agents
    # All were sent the same body.
    assert {line[1] for line in told if line} == {f"/jobs/{claim.job_id}/stream"}
    assert len({line[2] for line in told if line}) == 1


def test_a_request_that_comes_in_pieces_is_served_as_well(
    silent_tier: tuple[WebTier, Path], store: JobStore, event_log: EventLog
) -> None:
    """Also where another asked the same, whole."""
    web, _ = silent_tier
    claim = running(store)
    head = f"GET /jobs/{claim.job_id}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with contextlib.ExitStack() as clients:
        for pieces in ([head], [head], [head[:10], head[10:]], [head[:-2], head[-2:]]):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", web.port), timeout=30))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                client.sendall(piece)
                time.sleep(0.05)
            raw = b""
            while b"id: %d-1\n" % claim.fence not in raw:
                raw += client.recv(65536)
            assert raw.startswith(b"HTTP/1.1 200 OK")
        store.finish(claim, SUCCESS, 1)


def test_a_connection_over_which_nothing_comes_is_closed(valkey_url: str) -> None:
    """After the time that gunicorn gives an idle one."""
    with web_tier(valkey_url, GUNICORN_CMD_ARGS="--keep-alive 1") as web:
        with socket.create_connection(("127.0.0.1", web.port), timeout=30) as client:
            assert client.recv(1) == b""


def test_a_process_takes_so_many_streams_and_no_more(
    small_tier: WebTier, store: JobStore, event_log: EventLog
) -> None:
    """One more gets 503, and a place once another has left."""
    claim = running(store)
    path = f"/jobs/{claim.job_id}/stream"
    watches = [Watch(small_tier.url, path) for _ in range(MOST)]
    for watch in watches:
        watch.until(2)
    refused = httpx.get(small_tier.url + path)
    told(refused, 503, "too-many-streams")
    assert refused.headers["Retry-After"]
    watches.pop().leave()

    def is_let_in() -> Watch | None:
        watch = Watch(small_tier.url, path)
        if watch.status == 200:
            return watch
        watch.leave()
        return None

    watches.append(wait_until(is_let_in, "a place"))
    store.finish(claim, SUCCESS, 1)
    for watch in watches:
        watch.to_end()
        assert watch.ids == ids(event_log, claim.job_id)


@pytest.mark.parametrize("takes_over", BOTH_WAYS)
def test_a_key_has_its_share_of_the_streams(
    valkey_url: str, tmp_path: Path, store: JobStore, takes_over: str
) -> None:
    """Whoever has more of them leaves room for others; a stream that ended counts no more."""
    alice, bob = give(tmp_path / "keys", "alice"), give(tmp_path / "keys", "bob")
    env = {"RANKCAST_TAKE_OVER": takes_over, "RANKCAST_KEYS": str(tmp_path / "keys")}
    with web_tier(valkey_url, **env, RANKCAST_MAX_STREAMS_PER_KEY="2") as web:
        jobs = {
            holder: store.create(task=TASK, input=b"{}", options=JobOptions(), owner=holder.id).job_id
            for holder in (alice, bob)
        }
        paths = {holder: f"/jobs/{job_id}/stream" for holder, job_id in jobs.items()}
        watches = [Watch(web.url, paths[alice], headers=alice.headers) for _ in range(2)]
        for watch in watches:
            watch.until(1)
        refused = httpx.get(web.url + paths[alice], headers=alice.headers)
        told(refused, 503, "too-many-streams")
        assert "RANKCAST_MAX_STREAMS_PER_KEY" in refused.json()["detail"]
        watches.append(Watch(web.url, paths[bob], headers=bob.headers))
        watches[-1].until(1)
        watches.pop(0).leave()

        def is_let_in() -> bool:
            with httpx.stream("GET", web.url + paths[alice], headers=alice.headers) as answer:
                return answer.status_code == 200

        wait_until(is_let_in, "a place")
        for watch in watches:
            watch.leave()


class Watched(dict[str, Any]):
    """An environment that knows what of a request was looked at."""

    seen: set[str]

    def __getitem__(self, name: str) -> Any:
        self.seen.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.seen.add(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.seen.add(str(name))
        return super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("somebody looks at all that the request has")

    keys = values = items = copy = __iter__  # type: ignore[assignment]


@pytest.mark.parametrize("has_keys", [True, False])
def test_a_stream_is_decided_by_nothing_in_which_viewers_may_differ(
    valkey_url: str, tmp_path: Path, store: JobStore, has_keys: bool
) -> None:
    """What else a route looked at, two requests that are taken for the same could differ in."""
    alice = give(tmp_path / "keys", "alice")
    shared = Settings(redis_url=valkey_url)
    cors = frozenset({"https://app.example"})
    settings = WebSettings(shared=shared, keys=tmp_path / "keys" if has_keys else None, cors=cors)
    app = create_app(settings)
    job_id = store.create(task=TASK, input=b"{}", options=JobOptions(), owner=alice.id).job_id
    headers = {"Host": "localhost", "Origin": "https://app.example", **alice.headers}
    environ = Watched(EnvironBuilder(path=f"/jobs/{job_id}/stream", headers=headers).get_environ())
    environ.seen = set()
    told: list[str] = []
    body = app.wsgi_app(environ, lambda status, headers: told.append(status))
    close = getattr(body, "close", lambda: None)
    close()
    assert told == ["200 OK"]
    of_the_request = {name for name in environ.seen if name.startswith("HTTP_")}
    assert "HTTP_ORIGIN" in of_the_request
    assert ("HTTP_AUTHORIZATION" in of_the_request) == has_keys
    assert not of_the_request & {f"HTTP_{name.upper().replace('-', '_')}" for name in IDLE}


@pytest.mark.parametrize("takes_over", BOTH_WAYS)
def test_who_asks_as_another_did_is_let_in_by_the_same_rules(
    valkey_url: str, tmp_path: Path, store: JobStore, event_log: EventLog, takes_over: str
) -> None:
    """With a cursor of one's own; but not as somebody else, and not once the key is revoked."""
    alice, bob = give(tmp_path / "keys", "alice"), give(tmp_path / "keys", "bob")
    env = {"RANKCAST_TAKE_OVER": takes_over, "RANKCAST_KEYS": str(tmp_path / "keys")}
    job_id = store.create(task=TASK, input=b"{}", options=JobOptions(), owner=alice.id).job_id
    claim = running(store, job_id)
    append(event_log, claim, 2, "1", "2")
    with web_tier(valkey_url, **env) as web:
        path, whole = f"/jobs/{job_id}/stream", ids(event_log, job_id)
        watches = [Watch(web.url, path, headers=alice.headers)]
        watches[0].until(len(whole))
        for cursor in (whole[1], whole[-1], ""):
            watches.append(Watch(web.url, path, headers={**alice.headers, "Last-Event-ID": cursor}))
        lost = Watch(web.url, path, headers={**alice.headers, "Last-Event-ID": "77-7"})
        lost.until(1)
        told(httpx.get(web.url + path, headers=bob.headers), 404, "unknown-job")
        told(httpx.get(web.url + path), 401, "key-needed")
        revoke(tmp_path / "keys", alice)
        told(httpx.get(web.url + path, headers=alice.headers), 401, "key-needed")
        store.finish(claim, SUCCESS, 3)
        for watch in (*watches, lost):
            watch.to_end()
        whole = ids(event_log, job_id)
        assert [watch.ids for watch in watches] == [whole, whole[2:], whole[-1:], whole]
        assert lost.frames[0].kind == "reset"
    with web_tier(valkey_url, RANKCAST_TAKE_OVER=takes_over) as web:
        first = Watch(web.url, path)
        first.to_end()
        assert httpx.get(web.url + path, headers={"Last-Event-ID": whole[-1]}).status_code == 204
        assert httpx.get(web.url + path, headers={"Host": "evil.example"}).status_code == 403


def test_each_connection_has_a_descriptor_whatever_the_shell_has(valkey_url: str) -> None:
    """They begin with 1,024 in most shells."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        with web_tier(valkey_url) as web:
            (worker,) = psutil.Process(web.process.pid).children()
            assert worker.rlimit(psutil.RLIMIT_NOFILE)[0] > min(10_000, hard - 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def come_until_refused(web: WebTier, job_id: str, clients: contextlib.ExitStack) -> int:
    """How many viewers were let in; nobody but the one after them is told otherwise, and what."""
    head = f"GET /jobs/{job_id}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    for count in itertools.count():
        client = clients.enter_context(socket.create_connection(("127.0.0.1", web.port), timeout=10))
        client.sendall(head)
        if not (answer := client.recv(4096)).startswith(b"HTTP/1.1 200 OK\r\n"):
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: " in answer
            assert httpx.get(f"{web.url}/healthz").status_code == 200
            return count
    raise AssertionError


@pytest.mark.parametrize("takes_over", BOTH_WAYS)
def test_each_stream_has_a_descriptor_beside_those_of_other_connections(
    valkey_url: str, store: JobStore, takes_over: str
) -> None:
    env = {"RANKCAST_TAKE_OVER": takes_over, "GUNICORN_CMD_ARGS": "--worker-connections 10"}
    job_id = running(store).job_id
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        web = WebTier(valkey_url, RANKCAST_MAX_STREAMS="300", **env)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        web.wait_until_ready()
        with contextlib.ExitStack() as clients:
            assert come_until_refused(web, job_id, clients) == 300
    finally:
        web.stop()


@pytest.mark.parametrize("takes_over", BOTH_WAYS)
def test_a_process_takes_so_many_streams_as_the_system_gives_it_descriptors(
    valkey_url: str, tmp_path: Path, store: JobStore, takes_over: str
) -> None:
    """It says so when it starts."""
    lines, job_id = tmp_path / "error.log", running(store).job_id
    env = {"RANKCAST_TAKE_OVER": takes_over, "GUNICORN_CMD_ARGS": f"--error-logfile {lines}"}
    with web_tier(valkey_url, max_files=300, **env) as web, contextlib.ExitStack() as clients:
        count = come_until_refused(web, job_id, clients)
    (told,) = [line for line in lines.read_text().splitlines() if "300 files" in line]
    assert f"room for {count} streams, not 10000" in told
    assert count > 100


def test_viewers_that_come_while_much_is_streamed_see_all_of_it(
    silent_tier: tuple[WebTier, Path], store: JobStore, event_log: EventLog
) -> None:
    """They join at places of their own, some slower than what is written; each has every event once."""
    web, _ = silent_tier
    claim = running(store)
    watches: list[Any] = []
    for seq in range(2, 602):
        append(event_log, claim, seq, b'"%b"' % (b"y" * 3000))
        if seq % 20 == 0:
            watches.append(Watch(web.url, f"/jobs/{claim.job_id}/stream"))
    store.finish(claim, SUCCESS, 601)
    whole = ids(event_log, claim.job_id)
    for watch in watches:
        watch.to_end()
        assert watch.ids == whole


def test_a_client_of_http_1_0_is_served_as_well(
    silent_tier: tuple[WebTier, Path], store: JobStore, event_log: EventLog
) -> None:
    """It knows no chunks: its stream ends with the connection."""
    web, _ = silent_tier
    claim = running(store)
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as client:
        client.sendall(f"GET /jobs/{claim.job_id}/stream HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        assert client.recv(1)
        store.finish(claim, SUCCESS, 1)
        raw = b""
        while part := client.recv(65536):
            raw += part
    assert raw.count(b"\nid: ") + raw.count(b"\rid: ") == len(ids(event_log, claim.job_id))
    assert b"Transfer-Encoding" not in raw
