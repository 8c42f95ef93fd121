"""Keepalives from one timer, for however many crowds: whoever has been silent for long enough is called."""

import time
from collections import OrderedDict
from typing import Any, Protocol

import gevent


class Silent(Protocol):
    """Who is called; it tells that it spoke before it returns."""

    def keep_alive(self) -> None: ...


class Keepalives:
    """Calls each that has told so once, `after_s` seconds after it last did."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        #: When each spoke, who has been silent longest first.
        self._spoke_at: OrderedDict[Silent, float] = OrderedDict()
        self._greenlet: Any = None

    def spoke(self, who: Silent) -> None:
        self._spoke_at[who] = time.monotonic()
        self._spoke_at.move_to_end(who)
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def forget(self, who: Silent) -> None:
        self._spoke_at.pop(who, None)

    def _run(self) -> None:
        while self._spoke_at:
            who, spoke_at = next(iter(self._spoke_at.items()))
            if (left_s := spoke_at + self._after_s - time.monotonic()) > 0:
                gevent.sleep(left_s)
            else:
                who.keep_alive()
        self._greenlet = None
