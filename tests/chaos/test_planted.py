"""The driver itself is tested: it must find bugs that are there on purpose, each in a real system."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from chaos.driver import run
from chaos.faults import FAULTS, Fault

HERE = Path(__file__).parent


def hit(name: str, phase: str = "running") -> Fault:
    """The fault of that name, in one phase."""
    fault = next(fault for fault in FAULTS if fault.name == name)
    return replace(fault, phases=(phase,))


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("bug", "fault", "told"),
    [
        # These need no fault: a quick job and a viewer that comes back are enough.
        ("flush forgotten", hit("wake-ups tripled"), "were accepted, its log has"),
        ("cursor ignored", hit("wake-ups tripled"), "and differs at"),
        ("cancel ignored", hit("cancel"), "succeeded, and a cancel was acknowledged"),
        ("orphans live", hit("worker killed"), "left by a killed worker"),
        ("nobody takes over", hit("worker killed"), "never ended, it is running"),
    ],
)
def test_a_bug_on_purpose_is_found(tmp_path: Path, bug: str, fault: Fault, told: str):
    """And told as what it is."""
    path = os.pathsep.join(filter(None, [str(HERE / "planted"), os.environ.get("PYTHONPATH")]))
    report = run(
        tmp_path,
        env={"CHAOS_BUG": bug, "PYTHONPATH": path},
        faults=[fault],
        seconds=2,
        seed=1,
        settle_timeout_s=6,
    )
    assert not report.is_green
    assert [line for line in report.violations if told in line] != []
    assert report.empty == []
