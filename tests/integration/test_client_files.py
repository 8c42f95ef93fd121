"""Files both ways: downloads over connections that break, uploads piece by piece."""

import io
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest
from in_loop import async_client
from stub_server import Answered, Asked, StubServer

from rankcast import Client, RankcastError, RequestRefused
from rankcast.beside_redis import BesideRedis
from rankcast.client import Job

CONTENT = random.Random(5).randbytes(300_000)
REFERENCE = {"url": "/jobs/j1/artifacts/weights.bin", "file_name": "weights.bin", "file_size": len(CONTENT)}


class FileServer:
    """Has one file, answers ranges as RFC 9110 says, and cuts its answers after so many bytes."""

    def __init__(self, *cuts: int, content: bytes = CONTENT, etag: str | None = '"v1"') -> None:
        self.content = content
        self.etag = etag
        self.cuts: Iterator[int] = iter(cuts)
        self.ranges: list[str | None] = []

    def __call__(self, asked: Asked) -> Answered:
        wanted, condition = asked.headers.get("Range"), asked.headers.get("If-Range")
        self.ranges.append(wanted)
        headers = {} if self.etag is None else {"ETag": self.etag}
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        cut_at = next(self.cuts, None)
        if wanted is None or condition not in (None, self.etag):
            return Answered(200, self.content, headers, cut_at)
        told = f"bytes {first}-{len(self.content) - 1}/{len(self.content)}"
        return Answered(206, self.content[first:], {**headers, "Content-Range": told}, cut_at)


@pytest.fixture(params=[Client, async_client], ids=["sync", "async"])
def open_client(request):
    return request.param


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_download_goes_on_where_its_connection_broke(open_client, tmp_path):
    """However often; what was had once is not asked for again."""
    files = FileServer(100_000, 0, 1, 150_000)
    with StubServer(files) as server, open_client(server.url) as client:
        path = client.download(REFERENCE, tmp_path)
    assert path == tmp_path / "weights.bin"
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["weights.bin"]
    begins = [0 if each is None else int(each[6:-1]) for each in files.ranges]
    assert begins == sorted(begins)
    assert (begins[0], begins[-1]) == (0, 250_001)


def test_a_file_that_was_written_anew_meanwhile_is_taken_from_its_start(open_client, tmp_path):
    """Half of one and half of another would be neither."""
    files, other = FileServer(100_000), CONTENT[::-1][:200_000]

    def answer(asked: Asked) -> Answered:
        if files.ranges:
            files.content, files.etag = other, '"v2"'
        return files(asked)

    with StubServer(answer) as server, open_client(server.url) as client:
        client.job("j1").download(REFERENCE["url"], tmp_path / "mine")
    assert (tmp_path / "mine").read_bytes() == other


def test_a_directory_that_ends_in_a_slash_is_made(open_client, tmp_path):
    """Else the next file would replace this one, under the directory's name."""
    with StubServer(FileServer()) as server, open_client(server.url) as client:
        assert client.download(REFERENCE, f"{tmp_path}/out/") == tmp_path / "out" / "weights.bin"
    assert (tmp_path / "out" / "weights.bin").read_bytes() == CONTENT


def test_the_file_there_before_stays_until_the_new_one_is_complete(open_client, tmp_path):
    """Whoever reads it meanwhile reads a whole one; a download that fails leaves nothing of its own."""
    target = tmp_path / "weights.bin"
    target.write_bytes(b"before")
    with StubServer(FileServer(100_000)) as server, open_client(server.url) as client:
        with pytest.raises(TimeoutError):
            client.download(REFERENCE, target, timeout_s=0.001)
    with StubServer(lambda asked: Answered(404, b"{}")) as server, open_client(server.url) as client:
        with pytest.raises(RequestRefused, match="404"):
            client.download(REFERENCE, target)
    assert target.read_bytes() == b"before"
    assert names(tmp_path) == ["weights.bin"]


def test_a_part_that_was_not_asked_for_is_refused(open_client, tmp_path):
    """A file with a hole would be worse than none."""

    def answer(asked: Asked) -> Answered:
        if "Range" not in asked.headers:
            return Answered(200, CONTENT, cut_at=1000)
        return Answered(206, CONTENT[5000:], {"Content-Range": f"bytes 5000-299999/{len(CONTENT)}"})

    with StubServer(answer) as server, open_client(server.url) as client:
        with pytest.raises(RankcastError, match="another part"):
            client.download(REFERENCE, tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("url", "content"),
    [("data:image/png;base64,iVBORw==", b"\x89PNG"), ("data:,a%20b", b"a b")],
    ids=["base64", "text"],
)
def test_a_small_value_that_came_with_its_event_is_written_the_same_way(url, content, tmp_path):
    """Whether a value was stored beside the log is its size's business, not the caller's."""
    with Client("http://127.0.0.1:1") as client:
        path = client.download({"content_type": "image/png", "url": url}, tmp_path)
    assert (path.name, path.read_bytes()) == ("file", content)


def test_the_key_goes_to_no_other_server(open_client, tmp_path):
    """A reference is something that a job told, so nothing to trust."""
    with StubServer(FileServer()) as own, StubServer(FileServer()) as other:
        with open_client(own.url, key="rk_1") as client:
            for url in (f"{other.url}/x", f"{own.url}.evil.example/x", "ftp://x/y", f"{own.url}@x/y"):
                with pytest.raises(ValueError, match="is not at"):
                    client.download(url, tmp_path)
            client.download(f"//{other.url.removeprefix('http://')}/x", tmp_path / "a")
            client.download(f"{own.url}/files/1/x?y=1", tmp_path / "b")
    assert other.asked == []
    assert own.asked[-1].path == "/files/1/x?y=1"


@pytest.mark.parametrize(
    ("told", "name"),
    [("../../etc/cron", "cron"), ("..", "file"), ("C:\\boot.ini", "boot.ini"), ("a\0b/", "file"), ("a", "a")],
)
def test_a_name_that_was_told_stays_in_the_directory_that_was_given(told, name, tmp_path):
    """The name is the job's, the directory the caller's."""
    with StubServer(FileServer()) as server, Client(server.url) as client:
        assert client.download({**REFERENCE, "file_name": told}, tmp_path) == tmp_path / name


def test_beside_redis_a_reference_is_told_to_need_http(settings, tmp_path):
    """What is stored beside the log is behind the web tier; what came with its event is not."""
    beside = BesideRedis(settings)
    job = Job("j1", beside)
    with pytest.raises(RankcastError, match="over HTTP"):
        job.download(REFERENCE, tmp_path)
    assert job.download("data:,x", tmp_path / "x").read_bytes() == b"x"
    assert names(tmp_path) == ["x"]
    beside.close()


def store(asked: Asked) -> Answered:
    """As `POST /files` answers."""
    name = parse_qs(urlsplit(asked.path).query)["file_name"][0]
    told = {"url": f"/files/f1/{name}", "file_name": name, "file_size": len(asked.body)}
    return Answered(201, json.dumps(told).encode(), {"Content-Type": "application/json"})


class Pipe(io.BytesIO):
    """A file whose size nobody knows."""

    name = 7

    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize("kind", ["path", "bytes", "file", "pipe"])
def test_a_file_is_sent_as_it_is_and_becomes_a_reference(kind, open_client, tmp_path):
    """By path, as bytes, or open; its name is its own unless another is given."""
    path = tmp_path / "the photo.png"
    path.write_bytes(CONTENT)
    sources = {"path": path, "bytes": CONTENT, "file": path.open("rb"), "pipe": Pipe(CONTENT)}
    with sources["file"], StubServer(store) as server, open_client(server.url) as client:
        stored = client.upload(sources[kind])
        named = client.upload(b"", "other.bin")
    name = path.name if kind in ("path", "file") else "file"
    assert stored == {"url": f"/files/f1/{name}", "file_name": name, "file_size": len(CONTENT)}
    assert named["file_name"] == "other.bin"
    assert (server.asked[0].method, server.asked[0].body) == ("POST", CONTENT)
    assert server.asked[0].headers["Content-Type"] == "application/octet-stream"
    assert ("Content-Length" in server.asked[0].headers) == (kind in ("path", "bytes"))


@contextmanager
def refusing_at_once(problem: bytes) -> Iterator[str]:
    """Answers 413 to the head of a request, and closes."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            head = b"HTTP/1.1 413 Too large\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(problem)
            connection.sendall(head + problem)
            connection.shutdown(socket.SHUT_WR)
            # What was sent meanwhile is taken, a while: closing on it would be a reset.
            while connection.recv(1 << 20):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_an_upload_that_cannot_be_is_told_as_what_it_is(open_client, tmp_path):
    """Also by an answer that comes while the file is being sent."""
    problem = json.dumps({"type": "x", "status": 413, "detail": "a file may have 1 bytes at most"}).encode()
    with refusing_at_once(problem) as url, open_client(url) as client:
        with pytest.raises(RequestRefused, match="may have 1 bytes"):
            client.upload(bytes(30_000_000))
    with open_client("http://127.0.0.1:1") as client, pytest.raises(FileNotFoundError):
        client.upload(tmp_path / "none")


def test_an_upload_gives_up_at_its_time(open_client):
    """Though every single piece is taken."""

    class Slow(Pipe):
        def read(self, size: int | None = -1) -> bytes:
            time.sleep(0.05)
            return b"x"

    with StubServer(store) as server, open_client(server.url) as client:
        with pytest.raises(TimeoutError):
            client.upload(Slow(), timeout_s=0.3)
