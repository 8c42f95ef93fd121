"""Uploaded files: whole or not there, their owner's, and gone after their time."""

import os
import resource
from pathlib import Path

import pytest

from rankcast.tasks.uploads import HALF_TTL_S, Upload, Uploads, file_url, new_id, tidy


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def uploads(tmp_path: Path, clock: Clock) -> Uploads:
    return Uploads(tmp_path / "files", now_s=clock)


def put(uploads: Uploads, data: bytes = b"data", *, owner: str = "", ttl_s: float = 60.0) -> tuple[str, str]:
    """Id and name of a new file."""
    upload = uploads.begin("a.png", owner=owner, ttl_s=ttl_s)
    upload.write(data)
    _, _, file_id, name = upload.finish().split("/")
    upload.abandon()
    return file_id, name


def read(uploads: Uploads, file_id: str, name: str) -> bytes | None:
    if (opened := uploads.open(file_id, name)) is None:
        return None
    with opened.file:
        return opened.file.read()


def test_a_file_is_there_once_it_is_whole(uploads: Uploads, tmp_path: Path):
    upload = uploads.begin("a.png", owner="key1", ttl_s=60)
    upload.write(b"da")
    (hidden,) = (tmp_path / "files").iterdir()
    assert read(uploads, hidden.name, "a.png") is read(uploads, hidden.name[1:], "a.png") is None
    upload.write(b"ta")
    _, _, file_id, name = upload.finish().split("/")
    assert read(uploads, file_id, name) == b"data"
    assert uploads.owner(file_id) == "key1"


def test_an_upload_that_was_given_up_leaves_nothing(uploads: Uploads, tmp_path: Path):
    upload = uploads.begin("a.png", owner="", ttl_s=60)
    upload.write(b"half")
    upload.abandon()
    assert list((tmp_path / "files").iterdir()) == []


def test_a_file_goes_after_its_time(uploads: Uploads, clock: Clock, tmp_path: Path):
    """Nobody reads it from then on; some worker removes it later. Other folders are let alone."""
    assert uploads.remove_expired() == []
    old, young = put(uploads), put(uploads, ttl_s=90)
    (tmp_path / "files" / "notes").mkdir()
    clock.now_s += 60
    assert (read(uploads, *old), uploads.owner(old[0]), read(uploads, *young)) == (None, None, b"data")
    assert uploads.remove_expired() == [old[0]]
    assert {path.name for path in (tmp_path / "files").iterdir()} == {young[0], "notes"}


def test_what_never_became_whole_goes_an_hour_after_its_last_byte(
    uploads: Uploads, clock: Clock, tmp_path: Path
):
    """Its web tier was killed; one that still arrives stays."""
    half = [uploads.begin("a.png", owner="", ttl_s=60) for _ in range(2)]
    dead, alive = (tmp_path / "files").iterdir()
    clock.now_s = 10_000_000_000.0
    for folder in (dead, alive):
        for path in (*folder.iterdir(), folder):
            os.utime(path, (0, clock.now_s - HALF_TTL_S - 1))
    os.utime(alive / "a.png", (0, clock.now_s - 1))
    assert uploads.remove_expired() == [dead.name[1:]]
    assert alive.exists()
    for each in half:
        each.abandon()


@pytest.mark.parametrize("name", ["", "..", ".about", "../x", "/etc/hostname", "a\0", "a/b", "a\n"])
def test_no_name_leads_to_another_file(uploads: Uploads, name: str):
    file_id, _ = put(uploads)
    assert read(uploads, file_id, name) is None
    assert read(uploads, name, "a.png") is None
    with pytest.raises(ValueError):
        uploads.begin(name, owner="", ttl_s=1)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a.png", "a.png"),
        ("Foto ä.png", "Foto__.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.png", "a.png"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("a\r\nb\0.png", "a__b_.png"),
        ("", ""),
        ("...", ""),
        ("x" * 300 + ".safetensors", "x" * 100 + ".safetensors"),
    ],
)
def test_a_clients_name_is_made_one_of_ours(given: str, kept: str):
    assert tidy(given) == kept


def arriving(uploads: Uploads, file_id: str, data: bytes, *, name: str = "a.png", owner: str = "") -> Upload:
    upload = uploads.begin(name, owner=owner, ttl_s=60, file_id=file_id)
    upload.write(data)
    return upload


def test_a_file_comes_to_the_id_that_it_was_promised(uploads: Uploads):
    file_id = new_id()
    upload = arriving(uploads, file_id, b"data")
    assert upload.finish() == file_url(file_id, "a.png")
    assert read(uploads, file_id, "a.png") == b"data"


def test_who_is_first_under_an_id_stays(uploads: Uploads, tmp_path: Path):
    """However they overlap; the same once more is the same, and all else is refused and leaves nothing."""
    file_id = new_id()
    same = [arriving(uploads, file_id, b"data") for _ in range(2)]
    others = [
        arriving(uploads, file_id, b"more"),
        arriving(uploads, file_id, b"data", name="b.png"),
        arriving(uploads, file_id, b"data", owner="key2"),
    ]
    assert [each.finish() for each in same] == [file_url(file_id, "a.png")] * 2
    for each in others:
        with pytest.raises(FileExistsError):
            each.finish()
    for each in (*same, *others):
        each.abandon()
    assert [path.name for path in (tmp_path / "files").iterdir()] == [file_id]
    assert (read(uploads, file_id, "a.png"), uploads.owner(file_id)) == (b"data", "")


@pytest.mark.parametrize("file_id", ["", "..", "A" * 32, "0" * 31, "0" * 32 + "\n", "../../../etc/a"])
def test_an_id_is_one_that_was_drawn(uploads: Uploads, file_id: str):
    with pytest.raises(ValueError):
        uploads.begin("a.png", owner="", ttl_s=1, file_id=file_id)


def test_a_full_disk_leaves_nothing(uploads: Uploads, tmp_path: Path):
    """Whether it says so at the first byte or at the last, which was buffered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    upload = uploads.begin("a.png", owner="", ttl_s=60)
    upload.write(b"x" * 2000)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        with pytest.raises(OSError, match="too large"):
            uploads.begin("b.png", owner="", ttl_s=60)
        with pytest.raises(OSError, match="too large"):
            upload.write(b"x" * (1 << 20))
        upload.abandon()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "files").iterdir()) == []
