"""Keepalives from one timer, for however many crowds: whoever has been silent for long enough is called."""

import heapq
import itertools
import logging
import time
from typing import Any, Protocol

import gevent

from rankcast.web.turn import YIELD_S

log = logging.getLogger(__name__)


class Silent(Protocol):
    """Who is called."""

    #: When it last spoke, on CLOCK_MONOTONIC. It speaks often, and is looked at now and then.
    spoke_at: float

    def keep_alive(self) -> None:
        """Speak, or be forgotten."""


class Keepalives:
    """Calls each that is watched, `after_s` seconds after it last spoke."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._number = itertools.count()
        self._watched: dict[int, Silent] = {}
        #: When to look at whom, soonest first. Who is forgotten leaves a number here, and nothing else.
        self._looks: list[tuple[float, int]] = []
        self._greenlet: Any = None

    def watch(self, who: Silent) -> int:
        """From now on; the number by which to forget it."""
        number = next(self._number)
        self._watched[number] = who
        self._look_again(number, who)
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)
        return number

    def forget(self, number: int) -> None:
        """May be called more than once."""
        self._watched.pop(number, None)

    def _run(self) -> None:
        while self._looks:
            left_s = self._looks[0][0] - time.monotonic()
            if left_s <= 0:
                self._look(heapq.heappop(self._looks)[1])
            gevent.sleep(max(left_s, YIELD_S))
        self._greenlet = None

    def _look(self, number: int) -> None:
        who = self._watched.get(number)
        if who is not None and who.spoke_at + self._after_s <= time.monotonic():
            self._call(number, who)
            who = self._watched.get(number)
        if who is not None:
            self._look_again(number, who)

    def _look_again(self, number: int, who: Silent) -> None:
        heapq.heappush(self._looks, (who.spoke_at + self._after_s, number))

    def _call(self, number: int, who: Silent) -> None:
        try:
            who.keep_alive()
        except Exception:
            # Without the greenlet that calls nobody would be kept alive any more.
            log.exception("a keepalive failed")
            self.forget(number)
