"""What the ranks of a job print: a capped stream beside the event log, and no part of it.

Lines may come from every rank, and also after the end.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

import redis

from rankcast.tasks.connect import Scripts, at_the_edge
from rankcast.tasks.errors import UnknownJob
from rankcast.tasks.keys import JobKeys

#: Kept for one job, about; the oldest go first.
MAX_LINES = 10_000
#: Characters of one line that are kept.
MAX_LINE = 4096


class LogLine(NamedTuple):
    """One printed line. `ts_ms` is the host's clock, for people; nothing is decided by it."""

    rank: int
    host: str
    stream: Literal["stdout", "stderr"]
    text: str
    ts_ms: int


class JobLogs:
    """The printed lines of all jobs; StoreUnavailable when Redis does not answer."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._scripts = Scripts(client)

    def append(self, job_id: str, lines: Sequence[LogLine]) -> None:
        """Add lines; long ones are cut. UnknownJob once the record is gone, and nothing is written."""
        flat: list[str | bytes | int] = []
        for line in lines:
            text = line.text if len(line.text) <= MAX_LINE else line.text[:MAX_LINE] + "…"
            # Lone surrogates stand for bytes that were no UTF-8 (PEP 383).
            shown = text.encode(errors="replace")
            flat += [line.rank, line.host, line.stream, line.ts_ms, shown]
        if flat and self._scripts.run("log", job_id, MAX_LINES, *flat)[0] == b"GONE":
            raise UnknownJob(job_id)

    def read(self, job_id: str, after: str = "0-0", limit: int = 1000) -> list[tuple[str, LogLine]]:
        """At most `limit` lines after the line with id `after`, each with its id. Empty for no job."""
        with at_the_edge():
            rows = cast(
                list[tuple[bytes, dict[bytes, bytes]]],
                self._redis.xrange(JobKeys(job_id).logs, min=f"({after}", max="+", count=limit),
            )
        return [(line_id.decode(), _line(fields)) for line_id, fields in rows]


def _line(fields: dict[bytes, bytes]) -> LogLine:
    stream: Any = fields[b"s"].decode()
    return LogLine(
        rank=int(fields[b"r"]),
        host=fields[b"h"].decode(),
        stream=stream,
        text=fields[b"l"].decode(),
        ts_ms=int(fields[b"t"]),
    )
