"""Following a job's event log over connections that break: one cursor, and nothing else remembered.

The id of the last event given to the caller is the cursor; each new connection names it, and the
server goes on behind it. So an event is given exactly once, however often the line is cut.
"""

import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from rankcast.errors import ConnectionLost, ServerUnreachable, StoreUnavailable
from rankcast.sse import Message
from rankcast.tasks.event import END
from rankcast.transport import Connection, LogPage

#: Longest pause between two tries, and the first one after a connection that brought something.
MAX_PAUSE_S = 10.0
FIRST_PAUSE_S = 0.1
#: Longest pause between two looks at what says by itself nothing.
MAX_QUIET_S = 2.0
#: How long to go on trying while no connection can be made.
PATIENCE_S = 300.0

#: Of a call, however little is left to wait.
LEAST_CALL_S = 1.0
#: A pause that is longer than this is worth a line.
WORTH_TELLING_S = 0.5

log = logging.getLogger(__name__)

#: What a later try may heal.
PASSING = (ConnectionLost, ServerUnreachable, StoreUnavailable)

#: Opens one connection behind a cursor (None: where the caller wants to begin), for at most so many
#: seconds.
Connect = Callable[[str | None, float | None], Connection]
#: Reads the page of printed lines behind a cursor (None: the first), in at most so many seconds.
ReadPage = Callable[[str | None, float | None], Awaitable[LogPage]]
T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Patience:
    """When to try again after a failure, and when to give up."""

    sleep: Callable[[float], Awaitable[None]]
    #: On `clock`; None waits as long as it takes.
    deadline: float | None = None
    patience_s: float = PATIENCE_S
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[float, float], float] = random.uniform
    _asked_s: float = 0.0
    _failures: int = 0
    _is_first: bool = True
    _lost_at: float | None = None

    @classmethod
    def of(cls, timeout_s: float | None, *, sleep: Callable[[float], Awaitable[None]]) -> "Patience":
        """For at most `timeout_s` from now."""
        return cls(sleep=sleep, deadline=None if timeout_s is None else time.monotonic() + timeout_s)

    def left_s(self) -> float | None:
        """Seconds to the deadline; TimeoutError when it is over."""
        if self.deadline is None:
            return None
        if (left_s := self.deadline - self.clock()) <= 0:
            raise TimeoutError
        return left_s

    def call_s(self) -> float | None:
        """Seconds for one call. A second at least: what is there already is had without any time to
        wait, too."""
        return None if self.deadline is None else max(LEAST_CALL_S, self.deadline - self.clock())

    def connected(self) -> None:
        self._is_first, self._lost_at = False, None

    def heard(self) -> None:
        """Something arrived: the next pause is short again."""
        self._failures = 0

    def asked(self, retry_ms: int | None) -> None:
        """The server wants no client back before this time."""
        if retry_ms is not None:
            self._asked_s = min(retry_ms / 1000, MAX_PAUSE_S)

    async def quiet(self) -> None:
        """Nothing new was there: wait before the next look. TimeoutError where the deadline is over."""
        await self._pause(self._next_pause_s(MAX_QUIET_S))

    async def lost(self, error: Exception) -> None:
        """Wait before the next try, or raise `error`.

        It is raised where the very first connection is refused (most likely a wrong address), and
        when none could be made for `patience_s`.
        """
        if self._is_first and isinstance(error, ServerUnreachable):
            raise error
        self._is_first = False
        self._lost_at = self.clock() if self._lost_at is None else self._lost_at
        if self.clock() - self._lost_at > self.patience_s:
            raise error
        self.left_s()
        pause_s = self._asked_s + self._next_pause_s(MAX_PAUSE_S)
        if pause_s > WORTH_TELLING_S and isinstance(error, ServerUnreachable | StoreUnavailable):
            log.warning("%s; trying again for up to %g minutes", error, self.patience_s / 60)
        await self._pause(pause_s)

    async def _pause(self, pause_s: float) -> None:
        left_s = self.left_s()
        await self.sleep(pause_s if left_s is None else min(pause_s, left_s))

    def _next_pause_s(self, longest_s: float) -> float:
        # Doubling, so that a server that is down is left alone; with jitter, so that the clients
        # which all lost the same server do not all come back at once.
        doubled = min(FIRST_PAUSE_S * 2.0 ** min(self._failures, 16), longest_s)
        self._failures += 1
        return self.jitter(0.5, 1.0) * doubled


async def follow(
    connect: Connect, *, cursor: str | None = None, patience: Patience
) -> AsyncGenerator[Message, None]:
    """The messages behind `cursor`, each once and in order, up to and with the `end` event.

    TimeoutError at `patience`'s deadline. What no later try can heal is raised as it comes.
    """
    while True:
        lost: Exception = ConnectionLost("the server closed the stream before the job's end event")
        try:
            async with connect(cursor, patience.left_s()) as messages:
                patience.connected()
                if messages is None:
                    return
                try:
                    while batch := await messages.read():
                        patience.heard()
                        for message in batch:
                            cursor = message.id or cursor
                            yield message
                            if message.kind == END:
                                return
                finally:
                    patience.asked(messages.retry_ms)
        except PASSING as error:
            lost = error
        await patience.lost(lost)


async def persist(call: Callable[[float | None], Awaitable[T]], patience: Patience) -> T:
    """What `call` returns, called again as long as its failures may pass; it is told for how many
    seconds at most. TimeoutError at `patience`'s deadline."""
    while True:
        try:
            answer = await call(patience.call_s())
        except PASSING as error:
            await patience.lost(error)
        else:
            patience.connected()
            return answer


async def follow_pages(read: ReadPage, patience: Patience) -> AsyncGenerator[LogPage, None]:
    """What is printed, page by page, until the job has ended and all of it was read.

    Nobody says when there is more to read, so it is looked for: soon again where lines just came, and
    seldom where the ranks are silent.
    """
    cursor: str | None = None
    while True:
        page = await persist(partial(read, cursor), patience)
        yield page
        cursor = page.cursor
        if page.lines:
            patience.heard()
        elif page.has_ended:
            return
        if not page.has_ended:
            await patience.quiet()
