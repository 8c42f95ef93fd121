"""The hub lets others run while it looks after many jobs. No Redis: it is not started."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from rankcast.tasks.event import START
from rankcast.tasks.eventlog import Position
from rankcast.tasks.state import JobState
from rankcast.web.hub import JOBS_AT_ONCE, Hub

MANY = 3 * JOBS_AT_ONCE + 1


class Log:
    """As EventLog, of jobs without an event, or without a record."""

    def __init__(self, told: list[str]) -> None:
        self._told = told
        self.position: Position | None = Position(START, None, JobState.RUNNING, None)

    def positions(self, job_ids: Sequence[str]) -> list[Position | None]:
        self._told.append(f"asked of {len(job_ids)}")
        return [self.position for _ in job_ids]

    def confirm_gone(self, job_ids: Sequence[str]) -> None:
        self._told.append(f"{len(job_ids)} are gone")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened, in order: what takes turns gives one each time that it may."""
    told: list[str] = []
    monkeypatch.setattr("rankcast.web.turn.TURN_S", 0.0)
    monkeypatch.setattr("rankcast.web.hub.time.sleep", lambda s: told.append("others run"))
    return told


@pytest.fixture
def hub(told: list[str]) -> Hub:
    """It follows many jobs, none of which was heard of."""

    def feed(number: int) -> Any:
        return SimpleNamespace(
            job_id=str(number),
            wake=lambda: told.append("woken"),
            furthest_if_due=lambda silent_since: START,
            compare=lambda furthest, position: told.append("compared"),
        )

    hub = Hub(url="redis://127.0.0.1:1", event_log=Log(told))  # type: ignore[arg-type]
    hub._feeds = {b"%d" % number: feed(number) for number in range(MANY)}
    return hub


def test_who_is_sent_away_at_the_end_is_sent_in_turns(hub: Hub, told: list[str]) -> None:
    hub.dismiss()
    part = [*["woken"] * JOBS_AT_ONCE, "others run"]
    assert told == [*part * 3, "woken", "others run"]


def test_jobs_are_compared_in_turns(hub: Hub, told: list[str]) -> None:
    hub._compare(hub._followed(), silent_since=0.0)
    part = [f"asked of {JOBS_AT_ONCE}", *["compared"] * JOBS_AT_ONCE, "others run"]
    assert told == [*part * 3, "asked of 1", "compared", "others run"]


def test_jobs_that_are_gone_are_so_in_turns(hub: Hub, told: list[str]) -> None:
    hub._event_log.position = None  # type: ignore[attr-defined]
    hub._compare(hub._followed(), silent_since=0.0)
    asked = [*[f"asked of {JOBS_AT_ONCE}", "others run"] * 3, "asked of 1", "others run"]
    part = [f"{JOBS_AT_ONCE} are gone", *["compared"] * JOBS_AT_ONCE, "others run"]
    assert told == [*asked, *part * 3, "1 are gone", "compared", "others run"]
