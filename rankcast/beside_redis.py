"""The way to the jobs beside Redis, without HTTP: what `delay` and `rankcast.submit` return a Job of.

The same queue, record and log as over HTTP; only the way there is shorter. It blocks: its coroutines
never wait, so they are for the sync `Job` alone.
"""

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import cache
from typing import Any, NoReturn

import orjson
from redis.client import PubSub

from rankcast.client import Job
from rankcast.errors import ConnectionLost, RankcastError
from rankcast.sse import Message
from rankcast.tasks.catalog import Catalog
from rankcast.tasks.celery_app import make_app
from rankcast.tasks.connect import at_the_edge, connect
from rankcast.tasks.event import RESET, Event, gap, reset
from rankcast.tasks.eventlog import EventLog, Start
from rankcast.tasks.idempotency import IdempotencyKey, is_well_formed
from rankcast.tasks.job import JobOptions
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.logs import MAX_LINES, JobLogs
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore
from rankcast.tasks.submit import Submitter
from rankcast.tasks.summary import figures, summary, timings
from rankcast.transport import LogLine, LogPage, Messages, Outcome

#: Messages can be lost: after so long without one the log itself is looked at.
SILENCE_S = 2.0


class BesideRedis:
    """Store, log and submitter as one Transport. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._redis = connect(settings.redis_url)
        self._store = JobStore(self._redis, settings)
        self._log = EventLog(self._redis, settings)
        self._logs = JobLogs(self._redis)
        self._submitter = Submitter(
            store=self._store, catalog=Catalog(self._redis, settings), app=make_app(settings)
        )

    def close(self) -> None:
        """End the connections."""
        self._redis.close()

    def submit(
        self, task: str, input: dict[str, Any], options: JobOptions, idempotency_key: str | None = None
    ) -> Job:
        """Queue a job. UnknownTask, InvalidInput, IdempotencyKeyReused, QueueFull, StoreUnavailable;
        ValueError for what is no idempotency key."""
        key = None
        if idempotency_key is not None:
            if not is_well_formed(idempotency_key):
                raise ValueError(f"not an idempotency key: {idempotency_key[:40]!r}")
            # The same key as over HTTP: how a job was submitted makes no difference.
            key = IdempotencyKey(value=idempotency_key, route="POST /jobs")
        return Job(self._submitter.submit(task, input, options, key=key).job_id, self)

    async def record(self, job_id: str) -> dict[str, Any]:
        record = self._store.record(job_id)
        told = summary(record) | {"options": asdict(record.options), "state": str(record.state)}
        return told | {
            "input": record.input,
            "metrics": figures(record),
            "timings": timings(record),
            "checkpoint": record.checkpoint,
        }

    async def outcome(self, job_id: str, timeout_s: float | None) -> Outcome | None:
        record = self._store.record(job_id)
        if not record.state.is_terminal:
            return None
        output = self._store.output(job_id) if record.state is JobState.SUCCEEDED else None
        return Outcome(
            str(record.state), None if output is None else orjson.loads(output), record.error or {}
        )

    async def cancel(self, job_id: str) -> str:
        return str(self._store.cancel(job_id).state)

    async def logs(self, job_id: str, after: str | None = None, timeout_s: float | None = None) -> LogPage:
        # First, so that what was printed before the end is in a page that has ended. Also raises
        # UnknownJob; a job that printed nothing has no logs in Redis.
        has_ended = self._log.position(job_id).state.is_terminal
        lines = self._logs.read(job_id, after or "0-0", limit=MAX_LINES)
        return LogPage([LogLine(*line) for _, line in lines], lines[-1][0] if lines else after, has_ended)

    def open(self, url: str, headers: Mapping[str, str], timeout_s: float | None) -> NoReturn:
        raise RankcastError(f"{url} is fetched over HTTP: rankcast.Client(…).download(…)")

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    @asynccontextmanager
    async def connect(
        self, job_id: str, cursor: str | None, *, is_from_now: bool = False, timeout_s: float | None = None
    ) -> AsyncIterator[Messages | None]:
        give_up = None if timeout_s is None else time.monotonic() + timeout_s
        with at_the_edge(), self._redis.pubsub() as live:  # type: ignore[no-untyped-call]
            live.subscribe(JobKeys(job_id).live)
            # The log is read only once Redis confirmed the subscription: what is written later is heard.
            live.get_message(timeout=SILENCE_S)
            start = self._start(job_id, cursor, is_from_now)
            yield None if start.is_complete else LogMessages(job_id, self._log, live, start, give_up)

    def _start(self, job_id: str, cursor: str | None, is_from_now: bool) -> Start:
        if cursor is not None or not is_from_now:
            return self._log.locate(job_id, cursor)
        position = self._log.position(job_id)
        return Start(position.last, is_complete=position.end_id is not None)


class LogMessages:
    """The log from `start` on; what comes over the live channel only says that it has grown."""

    retry_ms: int | None = None

    def __init__(self, job_id: str, log: EventLog, live: PubSub, start: Start, give_up: float | None) -> None:
        self._job_id = job_id
        self._log = log
        self._live = live
        self._cursor = start.after
        self._notice = start.told()
        self._give_up = give_up

    async def read(self) -> Sequence[Message]:
        if self._notice is not None:
            notice, self._notice = self._notice, None
            return [_message(notice)]
        while self._give_up is None or time.monotonic() < self._give_up:
            if events := list(self._next()):
                self._cursor = events[-1].id
                return [_message(event) for event in events]
            self._wait()
        return ()

    def _next(self) -> Iterator[Event]:
        """The page behind the cursor, and what has to be told before it."""
        page = self._log.read(self._job_id, self._cursor)
        if page and page[0].prev != self._cursor:
            # Trimmed meanwhile, or of a history that Redis has lost.
            start = self._log.locate(self._job_id, str(self._cursor))
            if start.notice == RESET:
                yield reset(start.after)
                return
            yield gap(self._cursor, page[0].prev)
        yield from page

    def _wait(self) -> None:
        left_s = SILENCE_S if self._give_up is None else self._give_up - time.monotonic()
        if self._live.get_message(timeout=max(0.0, min(SILENCE_S, left_s))) is not None:
            return
        if self._log.position(self._job_id).last < self._cursor:  # raises UnknownJob for one that is gone
            # The next connection tells where what is left begins.
            raise ConnectionLost("the log is shorter than it was: Redis lost its end")


def _message(event: Event) -> Message:
    return Message(str(event.id), event.kind, event.data or b"null")


@cache
def beside_redis() -> BesideRedis:
    """The one of this process, for the Redis at RANKCAST_REDIS_URL."""
    return BesideRedis(Settings.from_env())
