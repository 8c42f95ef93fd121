"""When a rank counts as frozen, and a call as stalled: the rules alone."""

from dataclasses import dataclass
from typing import Any

import pytest

from rankcast.gpu_worker.messages import Done
from rankcast.gpu_worker.supervision import Cut
from rankcast.gpu_worker.vigil import Vigil


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Rank:
    rank: int
    report: Any = None
    has_ended: bool = False
    heard_s: float = 0.0
    quiet_s: float = 0.0
    is_stopped: bool = False


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ranks() -> list[Rank]:
    return [Rank(0), Rank(1)]


def cut(vigil: Vigil) -> tuple[str, int | None]:
    with pytest.raises(Cut) as caught:
        vigil.left_s()
    return caught.value.error.kind, caught.value.error.rank


def test_the_rank_that_was_heard_longest_ago_is_the_frozen_one(ranks: list[Rank], clock: Clock):
    """The wait is until the next one could be; one that returned or ended need not be heard."""
    vigil = Vigil(ranks, silence_s=15, stall_s=None, clock=clock)
    clock.now += 14.5
    ranks[0].heard_s = clock.now
    assert vigil.left_s() == 0.5
    clock.now += 0.5
    assert cut(vigil) == ("rank_frozen", 1)
    ranks[1].report = Done()
    assert vigil.left_s() == 2.5
    ranks[0].has_ended = True
    assert vigil.left_s() is None


def test_a_silent_rank_whose_process_is_stopped_is_frozen_at_once(ranks: list[Rank], clock: Clock):
    """Nobody looks at one that speaks; a silent one is looked at after 3 s, and then every second."""
    vigil = Vigil(ranks, silence_s=15, stall_s=None, clock=clock)
    ranks[0].is_stopped = True
    clock.now += 2
    ranks[0].heard_s = clock.now
    assert vigil.left_s() == 1
    clock.now += 1
    assert vigil.left_s() == 1
    clock.now += 2
    assert cut(vigil) == ("rank_frozen", 0)


def test_a_silent_rank_that_is_stopped_later_is_found_too(ranks: list[Rank], clock: Clock):
    """Also in a start, where silence has no limit."""
    vigil = Vigil(ranks, silence_s=None, stall_s=None, clock=clock)
    clock.now += 60
    assert vigil.left_s() == 1
    ranks[1].is_stopped = True
    assert cut(vigil) == ("rank_frozen", 1)


def test_a_watcher_that_stood_still_itself_blames_nobody(ranks: list[Rank], clock: Clock):
    """A host that was frozen for a minute thaws: its ranks have as long from then, though they are
    still stopped at first."""
    vigil = Vigil(ranks, silence_s=15, stall_s=None, clock=clock)
    clock.now += 60
    ranks[0].is_stopped = ranks[1].is_stopped = True
    vigil.overslept()
    assert vigil.left_s() == 3


def test_a_call_stalls_when_no_rank_at_work_gets_on(ranks: list[Rank], clock: Clock):
    """One that does speaks for all, and one that has just returned does, too."""
    vigil = Vigil(ranks, silence_s=None, stall_s=5, clock=clock)
    clock.now += 60
    ranks[0].quiet_s = 7
    assert vigil.left_s() == 1
    ranks[1].report = Done()
    vigil.returned()
    assert vigil.left_s() == 1
    clock.now += 5
    assert cut(vigil) == ("stalled", None)


def test_without_limits_a_rank_may_be_silent_and_get_nowhere_for_ever(ranks: list[Rank], clock: Clock):
    vigil = Vigil(ranks, silence_s=None, stall_s=None, clock=clock)
    clock.now += 10**6
    ranks[0].quiet_s = ranks[1].quiet_s = 10.0**6
    assert vigil.left_s() == 1
