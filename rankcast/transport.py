"""What a `Job` needs to reach its job, however far away that is.

`over_http.py` reaches it through the web tier, `beside_redis.py` without HTTP. Both raise
`ConnectionLost` for what a later try may heal, and another RankcastError for what it will not. All
methods are coroutines; those of a transport that blocks never wait (blocking.py).
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

from rankcast.http_io import Answer
from rankcast.sse import Message


class Outcome(NamedTuple):
    """How a job ended: its state, and its output (succeeded) or its error object (otherwise)."""

    state: str
    output: Any
    error: Mapping[str, Any]


class LogLine(NamedTuple):
    """One line that a rank printed. `stream` is "stdout" or "stderr", `ts_ms` since the epoch."""

    rank: int
    host: str
    stream: str
    text: str
    ts_ms: int


class LogPage(NamedTuple):
    """Printed lines, the cursor of the newest, and whether the job had ended before they were read: then
    the next page is the last if it is empty."""

    lines: Sequence[LogLine]
    cursor: str | None
    has_ended: bool


class Messages(Protocol):
    """The messages of one connection, as they come."""

    @property
    def retry_ms(self) -> int | None:
        """How long the server asked to wait before the next connection."""
        ...

    async def read(self) -> Sequence[Message]:
        """The next ones; none where the connection was closed in order, be the job ended or not.
        ConnectionLost where it was not."""
        ...


#: To be used in an `async with`; None where the log is complete and nothing follows.
Connection = AbstractAsyncContextManager[Messages | None]


class Transport(Protocol):
    """One way to the jobs. Every method that takes a `job_id` raises UnknownJob where that is not known."""

    async def record(self, job_id: str) -> dict[str, Any]:
        """The job as `GET /jobs/<id>` tells it."""
        ...

    async def outcome(self, job_id: str, timeout_s: float | None) -> Outcome | None:
        """How the job ended; None while it has not."""
        ...

    async def cancel(self, job_id: str) -> str:
        """Ask for the job to be cancelled; the state it is in now."""
        ...

    async def logs(self, job_id: str, after: str | None = None, timeout_s: float | None = None) -> LogPage:
        """What the ranks printed behind the cursor `after`, oldest first."""
        ...

    def connect(
        self, job_id: str, cursor: str | None, *, is_from_now: bool = False, timeout_s: float | None = None
    ) -> Connection:
        """One connection to the event log behind `cursor`, for at most `timeout_s`.

        Without a cursor it begins at the log's start, or, `is_from_now`, with what happens next."""
        ...

    def open(
        self, url: str, headers: Mapping[str, str], timeout_s: float | None
    ) -> AbstractAsyncContextManager[Answer]:
        """The bytes behind a reference's `url`, for at most `timeout_s`; httpx.Headers of a GET."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        ...
