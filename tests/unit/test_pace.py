"""When rank 0's publisher rests."""

import pytest

from rankcast.gpu_worker.pace import QUICK_EVENTS, QUICK_S, REST_S, is_quick

GAP_S = QUICK_S / QUICK_EVENTS


def taken(times: list[float]) -> list[tuple[float, None]]:
    return [(time, None) for time in times]


def test_no_more_events_than_a_screen_shows_pictures_are_not_quick():
    seventy_five = taken([number / 75 for number in range(1000)])
    assert not is_quick(seventy_five, seventy_five[-1][0])


def test_a_hundred_a_second_are_quick():
    hundred = taken([number / 100 for number in range(QUICK_EVENTS)])
    assert is_quick(hundred, hundred[-1][0])


def test_a_few_at_once_do_not_count():
    """Also those that make up for a pause."""
    assert not is_quick(taken([0.0] * (QUICK_EVENTS - 1)), 0.0)
    late = [1.5 * GAP_S * (number - number % 8) for number in range(10 * QUICK_EVENTS)]
    assert not is_quick(taken(late), late[-1])


def test_what_came_quickly_once_is_over_after_a_while():
    quick = taken([0.0] * QUICK_EVENTS)
    assert is_quick(quick, 0.0)
    assert not is_quick(quick, QUICK_S)


@pytest.mark.parametrize(("rate", "rests"), [(75, False), (85, False), (89, False), (94, True), (200, True)])
def test_who_rests_goes_on_only_as_long_as_they_come_quickly(rate, rests):
    """What it rested for is taken together, which says nothing of when it came."""
    burst = [number / 1000 for number in range(100)]
    events = burst + [0.1 + number / rate for number in range(1, 10 * rate)]
    log, now = [], 0.0
    while now < 5:
        came = sum(event <= now for event in events)
        log += taken([now] * (came - len(log)))
        is_resting = is_quick(log, now)
        now = now + REST_S if is_resting else max(now, events[came])
        # It is sent in a moment.
        now += 0.0005
    assert is_resting == rests
