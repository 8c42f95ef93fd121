"""Keepalives from one timer, for however many crowds: whoever has been silent for long enough is called."""

import logging
import time
from collections import OrderedDict
from typing import Any, Protocol

import gevent

from rankcast.web.hub import YIELD_S

log = logging.getLogger(__name__)


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
            left_s = spoke_at + self._after_s - time.monotonic()
            if left_s <= 0:
                self._call(who)
            # It keeps nobody in memory meanwhile.
            del who
            gevent.sleep(max(left_s, YIELD_S))
        self._greenlet = None

    def _call(self, who: Silent) -> None:
        try:
            who.keep_alive()
        except Exception:
            # Without the greenlet that calls nobody would be kept alive any more.
            log.exception("a keepalive failed")
            self.forget(who)
