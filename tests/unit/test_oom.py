"""Evidence that the kernel killed for want of memory: a count that rose."""

from pathlib import Path

from rankcast.gpu_worker.oom import OomWatch, candidates

EVENTS = "low 0\nhigh 0\nmax 3\noom 1\noom_kill {}\noom_group_kill 0\n"


def test_only_a_kill_since_the_mark_is_evidence(tmp_path: Path):
    """An earlier job's says nothing of this one."""
    count = tmp_path / "memory.events"
    count.write_text(EVENTS.format(2))
    watch = OomWatch([tmp_path / "missing", count])
    watch.mark()
    assert not watch.has_risen()
    count.write_text(EVENTS.format(3))
    assert watch.has_risen()
    watch.mark()
    assert not watch.has_risen()


def test_where_nothing_counts_there_is_no_evidence(tmp_path: Path):
    """A file without the field is passed over as one that is missing."""
    (tmp_path / "old").write_text("oom_kill_disable 0\nunder_oom 0\n")
    watch = OomWatch([tmp_path / "old", tmp_path / "missing"])
    watch.mark()
    assert not watch.has_risen()


def test_the_control_group_of_the_worker_comes_before_the_host(tmp_path: Path):
    """Both kinds of control groups are found; the host's count also has strangers in it."""
    groups = tmp_path / "cgroup"
    groups.write_text("4:cpu,memory:/a\n3:pids:/b\n0::/user/c\n")
    found = [str(path) for path in candidates(groups)]
    assert found[:2] == ["/sys/fs/cgroup/memory/a/memory.oom_control", "/sys/fs/cgroup/user/c/memory.events"]
    assert found[-1] == "/proc/vmstat"


def test_this_system_is_asked_without_an_error():
    """Whatever it keeps: nothing was killed between two questions."""
    watch = OomWatch()
    watch.mark()
    assert not watch.has_risen()
