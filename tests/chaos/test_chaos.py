"""A minute and a half of faults in every phase, seed fixed; `make chaos` has the whole catalogue."""

from dataclasses import replace
from pathlib import Path

import pytest

from chaos.driver import run, table
from chaos.faults import FAULTS, Fault
from chaos.phases import PHASES

#: Those that cost little time, in all of their phases; of those that wait for a process to start again,
#: the phases in which most can go wrong.
QUICK = {
    "rank 0 killed": PHASES,
    "last rank killed": PHASES,
    "rank frozen": ("collective",),
    "forkserver killed": ("setup", "publishing"),
    "worker killed": ("starting", "publishing", "finish"),
    "worker drained": ("running",),
    "web tier killed": ("queued", "publishing"),
    "web tier ended": ("running",),
    "Redis killed": PHASES,
    "Redis killed, log torn": ("publishing", "finish"),
    "Redis killed, jobs lost": PHASES,
    "Redis stalled": ("flush",),
    "connections cut": PHASES,
    "wake-ups tripled": ("queued", "finish"),
    "cancel": PHASES,
}


def quick() -> list[Fault]:
    return [
        replace(fault, phases=tuple(phase for phase in fault.phases if phase in QUICK[fault.name]))
        for fault in FAULTS
        if fault.name in QUICK
    ]


@pytest.mark.timeout(900)
def test_nothing_is_lost_or_stuck_or_left_behind_whatever_breaks(tmp_path: Path):
    """Every planned cell was hit, and nobody found anything wrong."""
    report = run(tmp_path, faults=quick(), seconds=90, seed=2026)
    print(table(report, quick()))
    assert report.violations == []
    assert report.empty == []
