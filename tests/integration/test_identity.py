"""A worker's id tells another on its host whether it has died, and nobody else anything."""

import os
import subprocess
import sys

import pytest

from rankcast.gpu_worker.identity import has_died, own_id

ASKED = """
import sys
from rankcast.gpu_worker.identity import own_id
print(own_id(sys.argv[1]), flush=True)
input()
"""


def test_a_living_worker_has_not_died():
    """Its own id least of all."""
    assert not has_died(own_id("gpu-1"), "gpu-1")


@pytest.mark.parametrize("host", ["gpu-1", "[fd00::1]"])
def test_a_worker_that_was_killed_has_died_whether_it_was_reaped_or_not(host: str):
    """Where pid 1 does not reap, it stays in the process table for good."""
    command = [sys.executable, "-c", ASKED, host]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        told = child.stdout.readline().strip()
        assert not has_died(told, host)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert has_died(told, host)
    assert has_died(told, host)


def test_a_later_process_with_its_pid_is_not_that_worker():
    """Pids come round again."""
    head, _, start = own_id("gpu-1").rpartition("-")
    assert has_died(f"{head}-{int(start) - 1}", "gpu-1")


def test_nothing_is_said_of_a_worker_of_another_host_boot_or_container():
    """Its pid means nothing here."""
    host, _, mark = own_id("gpu-1").split(":")
    origin, _, start = mark.partition("-")
    gone = "4194304"
    assert has_died(f"{host}:{gone}:{mark}", "gpu-1")
    for other in (
        f"{host}:{gone}:00000000-{start}",
        f"gpu-2:{gone}:{mark}",
        f"{host}:{gone}:{origin}",
        "gpu-1",
        "",
    ):
        assert not has_died(other, "gpu-1")
    assert not has_died(f"{host}:{gone}:{mark}", "gpu-2")
