"""What an input names, as a file: data URLs, uploads and artifacts of the same owner, and no one else's."""

from pathlib import Path

import pytest

from rankcast.gpu_worker.distributed_worker import DistributedWorker
from rankcast.gpu_worker.failure import told
from rankcast.gpu_worker.fetch import Limits
from rankcast.gpu_worker.inputs import InputFiles
from rankcast.tasks.artifacts import DirectoryArtifacts, url_of
from rankcast.tasks.errors import InputNotFetched
from rankcast.tasks.job import new_job_id
from rankcast.tasks.uploads import Uploads

JOB = "7f" * 16


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "files")


@pytest.fixture
def artifacts(tmp_path: Path) -> DirectoryArtifacts:
    return DirectoryArtifacts(tmp_path / "artifacts")


@pytest.fixture
def inputs(tmp_path: Path, uploads: Uploads, artifacts: DirectoryArtifacts) -> InputFiles:
    return InputFiles(
        tmp_path / "scratch" / "job-7",
        prefix="1-",
        limits=Limits(1000, 30),
        owner="key1",
        uploads=uploads,
        artifacts=artifacts,
    )


def upload(uploads: Uploads, owner: str) -> str:
    arriving = uploads.begin("cat.png", owner=owner, ttl_s=60)
    arriving.write(b"cat")
    url = arriving.finish()
    arriving.abandon()
    return url


@pytest.mark.parametrize(
    ("url", "name", "data"),
    [
        ("data:image/png;base64,aGk=", "data.png", b"hi"),
        ("data:text/plain;charset=utf-8,a%20b", "data.txt", b"a b"),
        ("data:,x", "data.bin", b"x"),
        ("data:application/safetensors;base64,", "data.safetensors", b""),
    ],
)
def test_a_data_url_is_a_file(inputs: InputFiles, tmp_path: Path, url: str, name: str, data: bytes):
    path = inputs.fetch(url)
    assert (path, path.read_bytes()) == (tmp_path / "scratch" / "job-7" / f"1-1-{name}", data)
    assert inputs.fetch({"url": url, "content_type": "x"}).name == f"1-2-{name}"


@pytest.mark.parametrize("url", ["data:image/png;base64,a", "data:;base64,ä", "data:", "data:," + "x" * 2000])
def test_what_is_no_data_url_is_refused(inputs: InputFiles, tmp_path: Path, url: str):
    with pytest.raises(InputNotFetched):
        inputs.fetch(url)
    assert not (tmp_path / "scratch").exists()


def test_an_upload_is_copied_for_its_owner(inputs: InputFiles, uploads: Uploads):
    """So that the task may do with it what it likes; somebody else's is as good as none."""
    mine, another, nobodys = (upload(uploads, owner) for owner in ("key1", "key2", ""))
    path = inputs.fetch(mine)
    path.write_bytes(b"changed")
    assert inputs.fetch({"url": mine}).read_bytes() == b"cat"
    for url in (another, nobodys, f"/files/{'0' * 32}/cat.png", f"{mine}x"):
        with pytest.raises(InputNotFetched, match="there is no file"):
            inputs.fetch(url)


def test_an_artifact_of_an_own_job_is_an_input(inputs: InputFiles, artifacts: DirectoryArtifacts):
    """One job goes on from what another stored."""
    theirs = new_job_id()
    artifacts.put(JOB, "7-1-a-b.npy", lambda path: path.write_bytes(b"mine"), owner="key1")
    artifacts.put(theirs, "7-1-a.npy", lambda path: path.write_bytes(b"theirs"), owner="key2")
    path = inputs.fetch(url_of(JOB, "7-1-a-b.npy"))
    assert (path.name, path.read_bytes()) == ("1-1-a-b.npy", b"mine")
    for url in (url_of(theirs, "7-1-a.npy"), url_of(JOB, "7-2-a.npy")):
        with pytest.raises(InputNotFetched, match="there is no file"):
            inputs.fetch(url)


@pytest.mark.parametrize(
    "url",
    [
        "/files/../../etc/hostname",
        "/files/%2e%2e/hostname",
        f"/files/{'0' * 32}/../../x",
        "/files/.about/x",
        f"/jobs/{JOB}/artifacts/..",
        f"/jobs/{JOB}/artifacts/.owner",
        "/jobs/../artifacts/7-1-a",
        "/etc/hostname",
        "file:///etc/hostname",
        "https://example.com/a",
        "",
        "a\0b",
    ],
)
def test_no_url_leads_to_another_file(inputs: InputFiles, tmp_path: Path, url: str):
    with pytest.raises(InputNotFetched):
        inputs.fetch(url)
    assert [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()] == []


def test_what_names_nothing_is_refused(inputs: InputFiles):
    for given in ({}, {"url": 3}):
        with pytest.raises(InputNotFetched, match="neither a URL"):
            inputs.fetch(given)


def test_left_uncaught_it_is_the_inputs_fault():
    error = told(InputNotFetched("no such file"))
    assert (error.kind, error.message) == ("invalid_input", "no such file")


def test_files_can_be_tried_without_any_rank(tmp_path: Path):
    """Data URLs, and what is text or bytes already; in a folder that goes with the worker."""
    worker = DistributedWorker()
    first, second = (worker.fetch_input(f"data:,{text}") for text in "xy")
    assert (first.read_bytes(), second.read_bytes()) == (b"x", b"y")
    with pytest.raises(InputNotFetched, match="--shared"):
        worker.fetch_input(f"/files/{'0' * 32}/a")
    saved = worker.save_artifact("note.txt", "ä")
    assert saved is not None
    assert (saved["file_name"], saved["file_size"], saved["content_type"]) == ("note.txt", 2, "text/plain")
    with pytest.raises(ValueError, match="cannot be an artifact's name"):
        worker.save_artifact("../note.txt", "ä")
