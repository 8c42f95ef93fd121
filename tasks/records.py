"""Reading jobs back: from the hashes and indexes that store.py describes to JobRecord."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, cast

import orjson
import redis

from rankcast.tasks import keys
from rankcast.tasks.event import EventId
from rankcast.tasks.job import AttemptRecord, JobOptions, JobRecord
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.state import JobState

#: Jobs looked at for one page of a list that asks for more than an index tells.
MAX_LISTED = 2_000

_FIELDS = (
    "task",
    "state",
    "owner",
    "input",
    "options",
    "created",
    "accept",
    "claimed",
    "started",
    "ended",
    "attempt",
    "losses",
    "current",
    "attempts",
    "fence",
    "worker",
    "cancel",
    "last",
    "end_id",
    "trimmed",
    "progress",
    "checkpoint",
    "error",
    "metrics",
)


class Page(NamedTuple):
    """Records, newest first; `cursor` asks for those after them, None when there are no more."""

    records: Sequence[JobRecord]
    cursor: str | None


def read_records(client: redis.Redis, job_ids: Sequence[str]) -> list[JobRecord | None]:
    """The jobs as they are now, None for one that is unknown."""
    pipe = client.pipeline(transaction=False)
    for job_id in job_ids:
        pipe.hmget(JobKeys(job_id).record, _FIELDS)
    rows = [dict(zip(_FIELDS, row, strict=True)) for row in pipe.execute()]
    queued = [
        (row["task"].decode(), job_id)
        for job_id, row in zip(job_ids, rows, strict=True)
        if row["state"] == b"queued"
    ]
    for task, job_id in queued:
        pipe.zrank(keys.QUEUED(task), job_id)
    positions = dict(zip(queued, pipe.execute(), strict=True))
    return [
        None if row["state"] is None else _record(job_id, row, positions.get((row["task"].decode(), job_id)))
        for job_id, row in zip(job_ids, rows, strict=True)
    ]


def read_page(
    client: redis.Redis,
    *,
    task: str | None,
    state: JobState | None,
    owner: str,
    limit: int,
    cursor: str | None,
) -> Page:
    """One page of JobStore.list."""
    name = keys.OWNED(owner) if owner else keys.JOBS if task is None else keys.JOBS_OF(task)
    # What the index does not tell, the records are asked for.
    told = {"state": state, "task": task if owner else None}
    asked = {field: value.encode() for field, value in told.items() if value is not None}
    count = MAX_LISTED if asked else limit
    index = client.zrevrangebyscore(
        name,
        "+inf" if cursor is None else f"({int(cursor)}",
        "-inf",
        start=0,
        num=count,
        withscores=True,
    )
    rows = [(job_id.decode(), int(order)) for job_id, order in cast(list[tuple[bytes, float]], index)]
    wanted = list(islice(_having(client, rows, asked), limit)) if asked else rows
    # A full page ends at its own last job, any other where the look at the index ended.
    seen = wanted if len(wanted) == limit else rows
    has_more = seen and (len(wanted) == limit or len(rows) == count)
    found = read_records(client, [job_id for job_id, _ in wanted])
    return Page([record for record in found if record is not None], str(seen[-1][1]) if has_more else None)


def _having(
    client: redis.Redis, rows: Sequence[tuple[str, int]], asked: Mapping[str, bytes]
) -> Iterator[tuple[str, int]]:
    """The rows of jobs whose records have these values."""
    pipe = client.pipeline(transaction=False)
    for job_id, _ in rows:
        pipe.hmget(JobKeys(job_id).record, list(asked))
    wanted = list(asked.values())
    return (row for row, found in zip(rows, pipe.execute(), strict=True) if found == wanted)


def _record(job_id: str, row: dict[str, Any], queue_position: int | None) -> JobRecord:
    def ms(name: str) -> int | None:
        return None if row[name] is None else int(row[name])

    def event_id(name: str) -> EventId | None:
        return None if row[name] is None else EventId.parse(row[name])

    def json(name: str) -> Any:
        return None if row[name] is None else orjson.loads(row[name])

    return JobRecord(
        job_id=job_id,
        task=row["task"].decode(),
        state=JobState(row["state"].decode()),
        owner="" if row["owner"] is None else row["owner"].decode(),
        input=json("input"),
        options=JobOptions(**json("options")),
        created_ms=int(row["created"]),
        accept_ms=None if row["accept"] is None else float(row["accept"]),
        claimed_ms=ms("claimed"),
        started_ms=ms("started"),
        ended_ms=ms("ended"),
        attempt=int(row["attempt"]),
        losses=int(row["losses"]),
        attempts=list(_attempts(row)),
        fence=int(row["fence"]),
        worker=None if row["worker"] is None else row["worker"].decode(),
        is_cancel_requested=row["cancel"] is not None,
        last=EventId.parse(row["last"]),
        end_id=event_id("end_id"),
        trimmed=event_id("trimmed"),
        queue_position=queue_position,
        progress=json("progress"),
        checkpoint=json("checkpoint"),
        error=json("error"),
        metrics=json("metrics") or {},
    )


def _attempts(row: dict[str, Any]) -> Iterator[AttemptRecord]:
    lines = row["attempts"].split(b"\n") if row["attempts"] else []
    if row["current"]:
        lines.append(row["current"] + b"}")
    for told in map(orjson.loads, lines):
        yield AttemptRecord(
            attempt=told["attempt"],
            worker=told["worker"],
            started_ms=told["started_ms"],
            ended_ms=told.get("ended_ms"),
            error=told.get("error"),
        )
