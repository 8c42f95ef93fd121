"""Who has been silent is called, when it is due and not before; one timer for all."""

import time

import gevent

from rankcast.web.keepalives import Keepalives

AFTER_S = 0.2


class Silent:
    def __init__(self, keepalives: Keepalives, name: str, called: list[str]) -> None:
        self._name, self._called = name, called
        self.spoke_at = time.monotonic()
        self.number = keepalives.watch(self)

    def keep_alive(self) -> None:
        self.spoke_at = time.monotonic()
        self._called.append(self._name)


def test_each_is_called_in_order_of_its_silence_and_again() -> None:
    called: list[str] = []
    keepalives = Keepalives(AFTER_S)
    first, second = (Silent(keepalives, name, called) for name in ("first", "second"))
    # What it says puts it behind the other.
    gevent.sleep(AFTER_S / 4)
    first.spoke_at = time.monotonic()
    with gevent.Timeout(20):
        while len(called) < 4:
            gevent.sleep(0.01)
    assert called[:4] == ["second", "first"] * 2
    keepalives.forget(first.number)
    keepalives.forget(second.number)


def test_who_is_forgotten_is_not_called_and_who_comes_later_is() -> None:
    called: list[str] = []
    keepalives = Keepalives(AFTER_S)
    gone = Silent(keepalives, "gone", called)
    keepalives.forget(gone.number)
    gevent.sleep(2 * AFTER_S)
    assert called == []
    later = Silent(keepalives, "later", called)
    with gevent.Timeout(20):
        while not called:
            gevent.sleep(0.01)
    assert called[0] == "later"
    keepalives.forget(later.number)
