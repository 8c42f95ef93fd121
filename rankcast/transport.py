"""What a `Job` needs to reach its job, however far away that is.

`over_http.py` reaches it through the web tier, `beside_redis.py` without HTTP. Both raise
`ConnectionLost` for what a later try may heal, and another RankcastError for what it will not.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

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


class Messages(Protocol):
    """The messages of one connection, as they come.

    They end where the connection was closed in order, be the job ended or not; ConnectionLost where
    it was not.
    """

    @property
    def retry_ms(self) -> int | None:
        """How long the server asked to wait before the next connection."""
        ...

    def __iter__(self) -> Iterator[Message]: ...


#: To be used in a `with`; None where the log is complete and nothing follows.
Connection = AbstractContextManager[Messages | None]


class Transport(Protocol):
    """One way to the jobs. Every method raises UnknownJob where the job is not known."""

    def record(self, job_id: str) -> dict[str, Any]:
        """The job as `GET /jobs/<id>` tells it."""
        ...

    def outcome(self, job_id: str) -> Outcome | None:
        """How the job ended; None while it has not."""
        ...

    def cancel(self, job_id: str) -> str:
        """Ask for the job to be cancelled; the state it is in now."""
        ...

    def logs(self, job_id: str) -> list[LogLine]:
        """What the ranks printed so far, oldest first."""
        ...

    def connect(
        self, job_id: str, cursor: str | None, *, is_from_now: bool = False, timeout_s: float | None = None
    ) -> Connection:
        """One connection to the event log behind `cursor`, for at most `timeout_s`.

        Without a cursor it begins at the log's start, or, `is_from_now`, with what happens next."""
        ...
