"""A job's artifacts in a folder: whole or not there, written once, and no way out of the folder."""

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import wait_until

from rankcast.tasks.artifacts import (
    DirectoryArtifacts,
    content_type_of,
    file_name_of,
    open_file,
    stored_name,
)
from rankcast.tasks.job import new_job_id

JOB = new_job_id()
#: Whatever a client may write where a name belongs; none of it names a file of the store.
NO_NAMES = (
    "",
    ".",
    "..",
    "7-1-..",
    "7-1-.owner",
    ".owner",
    "../secret",
    "7-1-../../secret",
    "7-1-a/../../secret",
    "/etc/hostname",
    "7-1-%2e%2e%2fsecret",
    "7-1-a\0b",
    "7-1-a\n",
    "7-1-a\\b",
    "7-1-ä",
    "7-1-" + "x" * 129,
    "-1-1-a",
    "7-a",
    "x-1-a",
    "٧-1-a",
)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryArtifacts:
    (tmp_path / "secret").write_text("secret")
    return DirectoryArtifacts(tmp_path / "artifacts")


def of(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def read(store: DirectoryArtifacts, name: str, job_id: str = JOB) -> bytes | None:
    opened = store.open(job_id, name)
    if opened is None:
        return None
    with opened.file:
        data = opened.file.read()
    assert len(data) == opened.size
    return data


def test_what_was_put_is_there_with_its_owner(store: DirectoryArtifacts):
    assert store.put(JOB, "7-1-a.bin", of(b"one"), owner="key1") == 3
    assert read(store, "7-1-a.bin") == b"one"
    assert store.owner(JOB) == "key1"
    assert store.names(JOB) == ["7-1-a.bin"]
    assert read(store, "7-2-a.bin") is None
    assert (store.owner(new_job_id()), store.names(new_job_id())) == (None, [])


def test_a_name_is_written_once(store: DirectoryArtifacts):
    """What an event refers to never changes."""
    store.put(JOB, "7-1-a.bin", of(b"one"))
    with pytest.raises(FileExistsError):
        store.put(JOB, "7-1-a.bin", of(b"two"))
    assert read(store, "7-1-a.bin") == b"one"


def test_two_attempts_never_write_the_same_file(store: DirectoryArtifacts):
    """The first was thought dead, and is late: each keeps what it wrote, in the order of fences."""
    for fence in (12, 7):
        store.put(JOB, stored_name(fence, 1, "image.png"), of(b"%d" % fence))
    assert store.names(JOB) == ["7-1-image.png", "12-1-image.png"]
    assert [read(store, name) for name in store.names(JOB)] == [b"7", b"12"]


def test_a_file_can_be_read_by_whoever_could_read_the_folder(store: DirectoryArtifacts, tmp_path: Path):
    """Some libraries write files for their own user alone, and the web tier may be another."""

    def write(path: Path) -> None:
        path.write_bytes(b"")
        path.chmod(0o600)

    store.put(JOB, "7-1-a.bin", write)
    (tmp_path / "plain").touch()
    path = tmp_path / "artifacts" / JOB / "7-1-a.bin"
    assert path.stat().st_mode & 0o777 == (tmp_path / "plain").stat().st_mode & 0o777


@pytest.mark.parametrize("name", NO_NAMES)
def test_no_name_leads_out_of_the_folder(store: DirectoryArtifacts, name: str):
    """Nor to what else lies in it."""
    store.put(JOB, "7-1-a.bin", of(b"one"))
    assert read(store, name) is None
    with pytest.raises(ValueError):
        store.put(JOB, name, of(b"two"))
    assert read(store, "7-1-a.bin", job_id=name) is None
    with pytest.raises(ValueError):
        store.put(name, "7-1-a.bin", of(b"two"))


def test_what_is_no_plain_file_is_not_opened(store: DirectoryArtifacts, tmp_path: Path):
    """Not through a link, and a pipe holds nobody up."""
    store.put(JOB, "7-1-a.bin", of(b"one"))
    folder = tmp_path / "artifacts" / JOB
    (folder / "7-2-link").symlink_to(tmp_path / "secret")
    (folder / "7-3-folder").mkdir()
    os.mkfifo(folder / "7-4-pipe")
    for name in store.names(JOB)[1:]:
        assert read(store, name) is None
    assert open_file(tmp_path / "nowhere") is None


def test_a_full_disk_leaves_nothing(store: DirectoryArtifacts, tmp_path: Path):
    """And is told as what it is, with the file's name."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=r"7-1-a\.bin") as failure:
            store.put(JOB, "7-1-a.bin", of(bytes(2000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failure.value.errno == errno.EFBIG
    assert list((tmp_path / "artifacts" / JOB).iterdir()) == []


KILLED = """
import sys, time
from pathlib import Path
from rankcast.tasks.artifacts import DirectoryArtifacts

def write(path):
    path.write_bytes(b"half")
    print("written", flush=True)
    time.sleep(600)

DirectoryArtifacts(Path(sys.argv[1])).put(sys.argv[2], "7-1-a.bin", write)
"""


def test_who_is_killed_before_the_file_is_whole_leaves_nothing_to_be_seen(
    store: DirectoryArtifacts, tmp_path: Path
):
    """kill -9 between the last byte and the rename; the next attempt goes its own way."""
    command = [sys.executable, "-c", KILLED, str(tmp_path / "artifacts"), JOB]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    left = [path for path in (tmp_path / "artifacts" / JOB).rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["7-1-a.bin"]
    assert (read(store, "7-1-a.bin"), store.names(JOB)) == (None, [])
    store.put(JOB, "8-1-a.bin", of(b"whole"))
    assert read(store, "8-1-a.bin") == b"whole"


def test_a_reader_sees_the_whole_file_or_none(store: DirectoryArtifacts):
    """At any moment of the writing."""
    seen: list[bytes | None] = []

    def write(path: Path) -> None:
        for number in range(3):
            with path.open("ab") as file:
                file.write(b"%d" % number)
            seen.append(read(store, "7-1-a.bin"))

    store.put(JOB, "7-1-a.bin", write)
    assert seen == [None, None, None]
    assert wait_until(lambda: read(store, "7-1-a.bin"), "the file") == b"012"


def test_artifacts_go_with_the_record_of_their_job(store: DirectoryArtifacts, tmp_path: Path):
    gone, kept = new_job_id(), new_job_id()
    for job_id in (gone, kept):
        store.put(job_id, "7-1-a.bin", of(b"one"))
        os.utime(tmp_path / "artifacts" / job_id, (0, 0))
    assert store.remove_forgotten(lambda job_ids: {kept}) == [gone]
    assert (read(store, "7-1-a.bin", gone), read(store, "7-1-a.bin", kept)) == (None, b"one")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.png", "image/png"),
        ("a.webp", "image/webp"),
        ("a.safetensors", "application/safetensors"),
        ("a.npy", "application/ndarray"),
        ("a.mp4", "video/mp4"),
        ("a.JSON", "application/json"),
        ("a.svg", "image/svg+xml"),
        ("a.tar.gz", "application/octet-stream"),
        ("a.bin", "application/octet-stream"),
        ("a", "application/octet-stream"),
        ("a.nothing", "application/octet-stream"),
    ],
)
def test_the_end_of_a_name_says_what_it_is(name: str, content_type: str):
    assert content_type_of(name) == content_type


def test_a_stored_name_gives_the_name_back():
    assert file_name_of(stored_name(812, 3, "a-b-c.png")) == "a-b-c.png"
    with pytest.raises(ValueError, match="cannot be an artifact's name"):
        stored_name(812, 3, "../a")
