"""The same stream, whole, under every server: also where no socket of its can be taken over."""

import contextlib
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
import trustme
from helpers import wait_until
from jobs import SUCCESS, append, ids, running
from web_tier import Frame, Tls, frames_of, web_tier

import rankcast
from rankcast import gpu_worker, tasks, web
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore
from rankcast.web.app import create_app
from rankcast.web.settings import WebSettings

#: What a copy has not is not to be found where tests find it otherwise.
ALONE = """import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in finder.__module__]
"""
#: The body of what is at a path, asked for with these headers, as it comes.
Get = Callable[[str, Mapping[str, str]], Iterator[bytes]]


def over_http(url: str, **how: object) -> Get:
    """A new connection for each."""

    def get(path: str, headers: Mapping[str, str]) -> Iterator[bytes]:
        with httpx.Client(base_url=url, timeout=30, **how) as client:  # type: ignore[arg-type]
            with client.stream("GET", path, headers=headers) as answer:
                yield from answer.raise_for_status().iter_bytes()

    return get


@contextlib.contextmanager
def gunicorn(redis_url: str, folder: Path, *args: str, **env: str) -> Iterator[Get]:
    # Whatever lies where it begins can be imported.
    with web_tier(redis_url, cwd=folder, GUNICORN_CMD_ARGS=" ".join(args), **env) as tier:
        yield over_http(tier.url)


@contextlib.contextmanager
def threads(redis_url: str, folder: Path) -> Iterator[Get]:
    with gunicorn(redis_url, folder, "--worker-class gthread", "--threads 8") as get:
        yield get


@contextlib.contextmanager
def without_the_file(redis_url: str, folder: Path) -> Iterator[Get]:
    """A copy of everything but the take-over."""
    package = folder / "rankcast"
    for part, name in ((rankcast, "."), (tasks, "tasks"), (gpu_worker, "gpu_worker"), (web, "web")):
        shutil.copytree(Path(str(part.__file__)).parent, package / name, dirs_exist_ok=True)
    (package / "web" / "takeover.py").unlink(missing_ok=True)
    (folder / "sitecustomize.py").write_text(ALONE)
    env = {"PYTHONPATH": str(folder)}
    asked = "from rankcast.web import gunicorn_conf as conf; print(conf.worker_class, conf.__file__)"
    done = subprocess.run([sys.executable, "-P", "-c", asked], capture_output=True, check=True, env=env)
    assert done.stdout.decode().split() == ["gevent", str(package / "web" / "gunicorn_conf.py")]
    with gunicorn(redis_url, folder, **env) as get:
        yield get


@contextlib.contextmanager
def tls(redis_url: str, folder: Path, *args: str, **client: bool) -> Iterator[Get]:
    ca = trustme.CA()
    files = Tls(folder / "leaf.pem", folder / "leaf.key", folder / "ca.pem")
    leaf = ca.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(files.key)
    leaf.cert_chain_pems[0].write_to_path(files.certificate)
    ca.cert_pem.write_to_path(files.authority)
    with web_tier(redis_url, tls=files, GUNICORN_CMD_ARGS=" ".join(args)) as tier:
        yield over_http(tier.url, verify=ssl.create_default_context(cafile=files.authority), **client)


@contextlib.contextmanager
def http_2(redis_url: str, folder: Path) -> Iterator[Get]:
    with tls(redis_url, folder, "--http-protocols h2", http1=False, http2=True) as get:
        yield get


@contextlib.contextmanager
def flasks_client(redis_url: str, folder: Path) -> Iterator[Get]:
    """No server, and no socket."""
    app = create_app(WebSettings(shared=Settings(redis_url=redis_url, broker_url=redis_url)))
    yield lambda path, headers: app.test_client().get(path, headers=headers).iter_encoded()
    services = app.extensions["rankcast"]
    services.hub.close()
    services.sweep.stop()


SERVERS = {
    "gunicorn": gunicorn,
    "without the take-over's file": without_the_file,
    "TLS": tls,
    "HTTP/2": http_2,
    "threads": threads,
    "Flask's client": flasks_client,
}


@pytest.fixture(scope="module", params=SERVERS.values(), ids=SERVERS.keys())
def get(
    request: pytest.FixtureRequest, valkey_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Get]:
    with request.param(valkey_url, tmp_path_factory.mktemp("server")) as get:
        yield get


class Viewer:
    """Reads a stream to its end, in a thread of its own."""

    def __init__(self, get: Get, job_id: str, cursor: str = "") -> None:
        self._body = get(f"/jobs/{job_id}/stream", {"Last-Event-ID": cursor} if cursor else {})
        self._raw = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for part in self._body:
            self._raw += part

    @property
    def frames(self) -> list[Frame]:
        return frames_of(self._raw)

    def until(self, count: int) -> None:
        wait_until(lambda: len(self.frames) >= count, f"{count} frames")

    def to_end(self) -> list[str]:
        """The ids of all that it was sent."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        return [frame.id for frame in self.frames]


def test_a_stream_comes_whole(get: Get, store: JobStore, event_log: EventLog) -> None:
    """What was, from any cursor, what comes, one by one, and the end."""
    claim = running(store)
    append(event_log, claim, 2, *["1"] * 100)
    before = ids(event_log, claim.job_id)
    whole, later = Viewer(get, claim.job_id), Viewer(get, claim.job_id, before[-51])
    whole.until(len(before))
    later.until(50)
    for seq in range(102, 112):
        append(event_log, claim, seq, "2")
        whole.until(len(before) + seq - 101)
    store.finish(claim, SUCCESS, 111)
    last = Viewer(get, claim.job_id, before[-1])
    everything = ids(event_log, claim.job_id)
    assert whole.to_end() == everything
    assert later.to_end() == everything[-61:]
    assert last.to_end() == everything[-11:]
    assert {viewer.frames[-1].kind for viewer in (whole, later, last)} == {"end"}
    assert Viewer(get, claim.job_id, everything[-1]).to_end() == []
