"""The clock behind `stall_s`: what sets it back, and when it stands still."""

import pytest

from rankcast.gpu_worker.activity import Activity


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def activity(clock: Clock) -> Activity:
    activity = Activity(clock=clock)
    activity.start()
    return activity


def test_it_counts_from_the_last_sign_of_progress(activity: Activity, clock: Clock):
    """The start of the call is the first."""
    clock.now += 5
    assert activity.quiet_s() == 5
    activity.touch()
    assert activity.quiet_s() == 0
    clock.now += 2
    assert activity.quiet_s() == 2


def test_it_stands_still_while_an_event_waits_for_redis(activity: Activity, clock: Clock):
    """An outage is not the job's fault; threads that wait at the same time all count."""
    with activity.held:
        with activity.held:
            clock.now += 100
            assert activity.quiet_s() == 0
        clock.now += 100
        assert activity.quiet_s() == 0
    clock.now += 1
    assert activity.quiet_s() == 1


def test_who_lets_go_of_it_sets_it_back_before(activity: Activity, clock: Clock, monkeypatch):
    """Else a look in between would find all that time of waiting."""
    looks = []
    monkeypatch.setattr(activity, "touch", lambda: looks.append(activity.quiet_s()))
    with activity.held:
        clock.now += 100
    assert looks == [0]


def test_it_runs_only_while_user_code_does(activity: Activity, clock: Clock):
    """Not between calls, and not while a finished call flushes its events."""
    activity.stop()
    clock.now += 100
    assert activity.quiet_s() == 0
    activity.touch()
    clock.now += 100
    assert activity.quiet_s() == 0
