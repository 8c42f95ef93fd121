"""When messages are let gather, and when nobody is held up."""

import pytest

from rankcast.web.moderation import CLOSE_S, REST_S, WINDOW_S, Moderation


def rests(*, apart_s: float, reads: int, messages: int = 1, begun_at: float = 1000.0) -> list[float]:
    """What follows each of `reads` reads of `messages` that are `apart_s` apart."""
    moderation, found = Moderation(), []
    for number in range(reads):
        moderation.read(messages, begun_at + number * messages * apart_s)
        found.append(moderation.rest_s)
    return found


def test_what_comes_alone_is_never_held_up() -> None:
    """Nor are a few that come at once, whenever this process was begun."""
    assert rests(apart_s=0.0001, reads=10) == [0.0] * 10
    assert rests(apart_s=0.0001, reads=10, begun_at=0.0) == [0.0] * 10


@pytest.mark.parametrize("messages", [1, 10])
def test_what_comes_slowly_is_never_held_up(messages: int) -> None:
    """However it is read."""
    assert set(rests(apart_s=1.1 * CLOSE_S, reads=10_000, messages=messages)) == {0.0}


@pytest.mark.parametrize("messages", [1, 10])
def test_what_comes_quickly_is_let_gather(messages: int) -> None:
    """Also while it does, when each read has several."""
    assert rests(apart_s=CLOSE_S / 2, reads=2000, messages=messages)[-100:] == [REST_S] * 100


def test_a_pause_ends_it() -> None:
    """What comes after it may come alone."""
    moderation, now = Moderation(), 1000.0
    for _ in range(2000):
        now += CLOSE_S / 2
        moderation.read(1, now)
    assert moderation.rest_s == REST_S
    moderation.read(1, now + 2 * WINDOW_S)
    assert moderation.rest_s == 0.0


def test_half_a_message_counts_as_one() -> None:
    """A large one is read in parts."""
    assert set(rests(apart_s=1.0, reads=10, messages=0)) == {0.0}
