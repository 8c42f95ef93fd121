"""What is left of a group that ended: the rules, and the processes and the memory that they look at."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import wait_until

from rankcast.gpu_worker import gpu_memory
from rankcast.gpu_worker.gpu_memory import memory_holders
from rankcast.gpu_worker.processes import Process, end, process, processes
from rankcast.gpu_worker.remains import Remains


class Host:
    """Processes by pid, and what SIGKILL does to them."""

    def __init__(self, *there: Process) -> None:
        self.there = {each.pid: each for each in there}
        self.undying: set[int] = set()
        self.holding: frozenset[int] = frozenset()

    def remains_of(self, *ranks: int) -> Remains:
        return Remains(
            ranks,
            processes=lambda: list(self.there.values()),
            end=self.end,
            memory_holders=lambda: self.holding,
        )

    def end(self, pids: list[int], timeout_s: float) -> bool:
        for pid in set(pids) - self.undying:
            del self.there[pid]
        return not self.undying & set(pids)


def sleeping(pid: int, session: int) -> Process:
    return Process(pid, "S", session, 1)


def test_the_ranks_and_all_of_their_sessions_are_ended():
    """Strangers are not touched."""
    host = Host(sleeping(10, 10), sleeping(11, 10), sleeping(20, 20), sleeping(7, 7))
    assert host.remains_of(10, 20).left(has_gpus=False) == ""
    assert list(host.there) == [7]


def test_a_process_that_does_not_die_is_told():
    host = Host(sleeping(10, 10), sleeping(11, 10))
    host.undying = {11}
    remains = host.remains_of(10)
    assert remains.left(has_gpus=False) == "processes 11"
    host.undying.clear()
    assert remains.left(has_gpus=False) == ""


def test_a_zombie_holds_nothing_unless_threads_of_it_are_still_on_their_way_out():
    host = Host(Process(10, "Z", 10, 1))
    assert host.remains_of(10).left(has_gpus=False) == ""
    host = Host(Process(10, "Z", 10, 3))
    host.undying = {10}
    assert host.remains_of(10).left(has_gpus=False) == "processes 10"


def test_memory_of_dead_processes_is_left_until_it_is_back():
    """That of what a rank started, too; strangers may hold what they like."""
    host = Host(sleeping(10, 10), sleeping(11, 10))
    remains = host.remains_of(10)
    host.holding = frozenset({7, 11})
    assert remains.left(has_gpus=True) == "memory of the dead processes 11"
    assert remains.left(has_gpus=False) == ""
    host.holding = frozenset({7})
    assert remains.left(has_gpus=True) == ""


FAMILY = """
import os, subprocess, sys
os.setsid()
child = subprocess.Popen(["sleep", "3600"])
# In a process group of its own, where a signal to the session's first one does not reach it.
other = subprocess.Popen(["sleep", "3600"], process_group=0)
print(child.pid, other.pid, flush=True)
os.wait()
"""


@pytest.fixture
def family() -> Iterator[tuple[int, int, int]]:
    """A process that leads a session, and two that it started."""
    leader = subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True)
    assert leader.stdout is not None
    pids = (leader.pid, *map(int, leader.stdout.readline().split()))
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    leader.communicate()


def test_real_processes_of_a_session_are_ended(family: tuple[int, int, int]):
    """Also those that a signal to the process group would miss."""
    leader, *_ = family
    os.kill(leader, signal.SIGSTOP)
    assert {each.session for each in processes() if each.pid in family} == {leader}
    assert Remains([leader]).left(10, has_gpus=False) == ""
    assert not any((found := process(pid)) and found.is_alive for pid in family)


def test_a_stopped_process_is_known_by_its_state(tmp_path: Path):
    """Whatever its name is: that is told in the same line."""
    (tmp_path / "a) T (b").symlink_to("/bin/sleep")
    with subprocess.Popen([tmp_path / "a) T (b", "3600"]) as sleeper:
        assert (found := process(sleeper.pid)) is not None
        assert not found.is_stopped
        sleeper.send_signal(signal.SIGSTOP)
        wait_until(lambda: (found := process(sleeper.pid)) and found.is_stopped, "its stop")
        sleeper.kill()


def test_a_process_that_is_gone_has_been_ended():
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert process(gone.pid) is None
    assert end([gone.pid], 0)


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An nvidia-smi of ours, the only one that is found; to be written."""
    script = tmp_path / "nvidia-smi"
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return script


def test_nvidia_smi_tells_who_holds_memory(smi: Path):
    """Of all GPUs, so that it does not matter how they are numbered here."""
    asked = "--query-compute-apps=pid --format=csv,noheader"
    smi.write_text(f'#!/bin/sh\n[ "$*" = "{asked}" ] && echo 12 && echo 345\n')
    assert memory_holders() == {12, 345}
    smi.write_text("#!/bin/sh\necho No running processes found\n")
    assert memory_holders() == frozenset()


def test_a_driver_that_answers_nothing_holds_up_no_slot(
    smi: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Told in the worker's log; that the processes are gone must do."""
    smi.write_text("#!/bin/sh\necho Driver/library version mismatch\nexit 18\n")
    assert memory_holders() == frozenset()
    assert "version mismatch" in caplog.text
    smi.write_text("#!/bin/sh\nexec sleep 3600\n")
    monkeypatch.setattr(gpu_memory, "TIMEOUT_S", 0.2)
    assert memory_holders() == frozenset()
    assert "does not answer" in caplog.text


def test_without_nvidia_smi_nobody_is_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert memory_holders() == frozenset()
