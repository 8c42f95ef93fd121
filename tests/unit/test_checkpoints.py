"""Checkpoints on disk: whole or not there, never written twice, and none that is not needed."""

import errno
import os
import resource
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from rankcast.gpu_worker.checkpoints import AttemptFolder, check, is_here
from rankcast.gpu_worker.failure import told
from rankcast.tasks.disk import GRACE_S, refuse_unwritable, remove_forgotten
from rankcast.tasks.errors import StaleAttempt
from rankcast.tasks.job import new_job_id

JOB, OTHER = new_job_id(), new_job_id()


class Log:
    """Takes announcements, and looks at the disk as somebody would who hears of one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.told: list[tuple[str, Mapping[str, Any]]] = []
        self.is_stale = False

    def announce(self, path: str, about: Mapping[str, Any]) -> None:
        if self.is_stale:
            raise StaleAttempt("over")
        assert (self.root / path).exists()
        self.told.append((path, about))

    @property
    def last(self) -> Path:
        return self.root / self.told[-1][0]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path.resolve())


def attempt(log: Log, fence: int, job_id: str = JOB) -> AttemptFolder:
    return AttemptFolder(log.root, job_id, fence, dump=torch.save, announce=log.announce)


def files(root: Path) -> list[str]:
    """Everything in it that is not a folder."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("value", [b"bytes", {"step": 3, "weights": torch.arange(4)}])
def test_a_value_is_on_disk_before_it_is_announced(log: Log, value: Any):
    """bytes as they are, anything else as torch has it; nothing but the file is left."""
    path = attempt(log, 7).save(value, "model.pt", {"step": 3})
    assert log.told == [(f"{JOB}/7/save-1/model.pt", {"step": 3})]
    assert path == log.last
    assert files(log.root) == [log.told[0][0]]
    if isinstance(value, bytes):
        assert path.read_bytes() == value
    else:
        assert torch.equal(torch.load(path, weights_only=True)["weights"], value["weights"])


def test_what_was_announced_is_never_written_again(log: Log):
    """Under the same name: else the record would name a file that says something else by now."""
    folder = attempt(log, 7)
    first, second = folder.save(b"1", "c.pt", {}), folder.save(b"2", "c.pt", {})
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")


def test_the_last_two_are_kept(log: Log):
    """The one before for a Redis that forgets the last announcement together with this host."""
    folder = attempt(log, 7)
    paths = [folder.save(b"%d" % number, "c.pt", {}) for number in range(5)]
    assert [path.exists() for path in paths] == [False, False, False, True, True]


def test_an_earlier_attempts_files_go_once_there_are_newer_ones(log: Log):
    """Of this job alone, and never those of a later attempt, whoever is late here."""
    before, elsewhere, later = attempt(log, 3), attempt(log, 3, OTHER), attempt(log, 9)
    old, other, new = (each.save(b"", "c.pt", {}) for each in (before, elsewhere, later))
    folder = attempt(log, 7)
    folder.save(b"1", "c.pt", {})
    assert old.exists()
    folder.save(b"2", "c.pt", {})
    assert not old.parent.parent.exists()
    assert other.exists()
    assert new.exists()


def test_a_save_that_was_not_announced_costs_nothing_that_was(log: Log):
    """The attempt was thought dead: what its successor begins from stays."""
    folder = attempt(log, 7)
    paths = [folder.save(b"%d" % number, "c.pt", {}) for number in range(2)]
    log.is_stale = True
    for _ in range(3):
        with pytest.raises(StaleAttempt):
            folder.save(b"late", "c.pt", {})
    assert log.last == paths[1]
    assert paths[1].read_bytes() == b"1"


# What the task writes itself


def test_a_folder_that_the_task_wrote_is_announced_as_it_is(log: Log):
    """As ranks do that each save a shard."""
    folder = attempt(log, 7)
    for step in range(3):
        shards = folder.made() / f"step-{step}"
        (shards / "deep").mkdir(parents=True)
        (shards / "deep" / "rank-1").write_bytes(b"1")
        assert folder.save(shards, "ignored", {"step": step}) == shards
    assert [path for path, _ in log.told] == [f"{JOB}/7/step-{step}" for step in range(3)]
    assert files(log.root) == [f"{JOB}/7/step-{step}/deep/rank-1" for step in (1, 2)]


def test_what_the_task_wrote_and_did_not_announce_is_its_own(log: Log):
    """A rank may be writing its next shard while rank 0 announces."""
    folder = attempt(log, 7)
    (folder.made() / "notes").write_text("mine")
    for _ in range(3):
        folder.save(b"", "c.pt", {})
    assert (folder.made() / "notes").read_text() == "mine"


@pytest.mark.parametrize("where", ["/etc/hostname", "..", ".", "../8/theirs", "link"])
def test_a_path_outside_the_attempts_own_folder_is_refused(log: Log, where: str):
    """Whichever way it leads there."""
    theirs = attempt(log, 8).made() / "theirs"
    theirs.write_bytes(b"")
    folder = attempt(log, 7)
    (folder.made() / "link").symlink_to(theirs)
    with pytest.raises(ValueError, match="is not in this attempt's checkpoint_dir"):
        folder.save(folder.made() / where, "c.pt", {})
    assert log.told == []


def test_a_path_is_announced_once(log: Log):
    """Whoever writes there again has spoilt what the record names; nor may one lie in the other."""
    folder = attempt(log, 7)
    (folder.made() / "step" / "shard").mkdir(parents=True)
    folder.save(folder.made() / "step", "c.pt", {})
    for again in ("step", "step/shard"):
        with pytest.raises(ValueError, match="announced before"):
            folder.save(folder.made() / again, "c.pt", {})


def test_a_path_that_is_not_there_says_so(log: Log):
    folder = attempt(log, 7)
    with pytest.raises(FileNotFoundError, match="missing"):
        folder.save(folder.made() / "missing", "c.pt", {})


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "/a", "a b", "ä", "a\n", "x" * 129, "-a"])
def test_a_name_is_one_plain_file_name(name: str):
    with pytest.raises(ValueError, match="cannot be a checkpoint's name"):
        check(name, {})


def test_what_is_said_about_a_checkpoint_does_not_hide_what_it_is():
    check("a.pt", {"step": 1, "loss": 2})
    with pytest.raises(ValueError, match="attempt, path"):
        check("a.pt", {"path": "x", "attempt": 2})


# A disk that is full


@pytest.fixture
def full_disk() -> Iterator[int]:
    """No file may grow past 64 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    yield 65536
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("value", [bytes(100_000), torch.zeros(100_000)])
def test_a_full_disk_is_told_and_leaves_nothing_half(log: Log, full_disk: int, value: Any):
    """torch says something else of it; the checkpoint before stays, and the job fails by that name."""
    folder = attempt(log, 7)
    first = folder.save(b"small", "c.pt", {})
    for _ in range(2):
        with pytest.raises(OSError, match=r"c\.pt") as failure:
            folder.save(value, "c.pt", {})
        assert failure.value.errno == errno.EFBIG
        assert told(failure.value).kind == "storage_full"
    assert files(log.root) == [log.told[0][0]]
    assert first.read_bytes() == b"small"
    assert folder.save(b"small again", "c.pt", {}).read_bytes() == b"small again"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES])
def test_only_a_full_disk_is_one(number: int):
    kind = told(OSError(number, os.strerror(number))).kind
    assert kind == ("exception" if number == errno.EACCES else "storage_full")


def test_a_value_that_cannot_be_written_leaves_nothing(log: Log):
    """Whatever it raises."""

    def dump(value: Any, file: BinaryIO) -> None:
        file.write(b"half")
        raise TypeError("cannot pickle that")

    folder = AttemptFolder(log.root, JOB, 7, dump=dump, announce=log.announce)
    with pytest.raises(TypeError):
        folder.save(object(), "c.pt", {})
    assert list(folder.made().iterdir()) == []


# Found again, and removed


def test_a_checkpoint_is_here_if_this_host_reaches_it(log: Log, tmp_path: Path):
    """Another host's folder is not this one's; and no record leads out of its job's folder."""
    attempt(log, 7).save(b"", "c.pt", {})
    here = {"path": log.told[0][0]}
    assert is_here(log.root, JOB, here)
    assert not is_here(tmp_path / "elsewhere", JOB, here)
    assert not is_here(log.root, OTHER, here)
    assert not is_here(log.root, JOB, {"path": f"{JOB}/7/gone"})
    assert not is_here(log.root, JOB, {"path": f"{JOB}/../../{log.root.name}"})


def test_checkpoints_of_forgotten_jobs_are_removed_after_an_hour(log: Log):
    """And nothing that is not a job's folder."""
    gone, kept, young = new_job_id(), new_job_id(), new_job_id()
    for job_id in (gone, kept, young):
        attempt(log, 1, job_id).save(b"", "c.pt", {})
    for name in ("not-a-job", gone.upper()):
        (log.root / name).mkdir()
    (log.root / OTHER).write_text("a file")
    for entry in log.root.iterdir():
        if entry.name != young:
            os.utime(entry, (0, 0))
    asked: list[str] = []

    def have_record(job_ids: Sequence[str]) -> set[str]:
        asked.extend(job_ids)
        return {kept}

    assert remove_forgotten(log.root, have_record) == [gone]
    assert sorted(asked) == sorted([gone, kept])
    assert {path.name for path in log.root.iterdir()} == {kept, young, "not-a-job", gone.upper(), OTHER}
    later_s = (log.root / young).stat().st_mtime + GRACE_S + 1
    assert remove_forgotten(log.root, have_record, now_s=lambda: later_s) == [young]
    assert remove_forgotten(log.root / "nowhere", have_record) == []


def test_a_folder_that_takes_no_files_is_refused_in_one_line(tmp_path: Path):
    """Here a file stands in its way."""
    refuse_unwritable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--shared \S+file/below: Not a directory"):
        refuse_unwritable(tmp_path / "file" / "below")
