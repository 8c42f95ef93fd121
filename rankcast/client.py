"""The sync client: submit a job, watch its events, have its result.

Everything here works over HTTP on a base install; nothing in it knows Redis, Celery or torch.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rankcast.errors import JobCancelled, JobFailed
from rankcast.follow import Patience, follow, persist
from rankcast.over_http import HttpTransport
from rankcast.tasks.event import RESULT
from rankcast.transport import Connection, LogLine, Outcome, Transport

DEFAULT_URL = "http://127.0.0.1:8700"


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a job's event log.

    `id` is its place there, opaque, and what `Job.stream(last_event_id=...)` takes. `kind` is "" for
    what the task streamed, else "state", "checkpoint" (the task saved one), "end" (exactly one, the
    last), "gap" (events that were asked for are no longer kept) or "reset" (the log was lost and begins
    anew). `data` is its JSON.
    """

    id: str
    kind: str
    data: Any

    @property
    def is_result(self) -> bool:
        """Whether the task's own code streamed it, with `add_streaming_result`."""
        return self.kind == RESULT


class Job:
    """One submission of a task, by its id. Holds no state: every call asks."""

    def __init__(self, id: str, transport: Transport) -> None:
        self.id = id
        self._transport = transport

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def stream(self, last_event_id: str | None = None) -> Iterator[Event]:
        """Every event of the job, in order, each once: those behind `last_event_id`, then live.

        Broken connections are resumed by themselves. Ends after the `end` event, and at once if that
        is `last_event_id`. ServerUnreachable if the first connection cannot be made, UnknownJob if
        there is no such job (any more).
        """
        if last_event_id is not None and not (last_event_id.isascii() and last_event_id.isprintable()):
            raise ValueError(f"not an event id: {last_event_id[:40]!r}")
        return self._events(last_event_id)

    def _events(self, cursor: str | None) -> Iterator[Event]:
        for message in follow(self._from_start, cursor=cursor, patience=Patience()):
            yield Event(message.id, message.kind, json.loads(message.data))

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the job to end; its output.

        JobFailed or JobCancelled if it ended so, TimeoutError if it has not ended in `timeout_s`
        (the job goes on).
        """
        patience = Patience(deadline=None if timeout_s is None else time.monotonic() + timeout_s)
        try:
            outcome = self._wait(patience)
        except TimeoutError:
            raise TimeoutError(f"job {self.id} has not ended within {timeout_s:g} s") from None
        if outcome.state == "failed":
            raise JobFailed(self.id, outcome.error)
        if outcome.state == "cancelled":
            raise JobCancelled(self.id, outcome.error)
        return outcome.output

    def _wait(self, patience: Patience) -> Outcome:
        while (outcome := persist(lambda: self._transport.outcome(self.id), patience)) is None:
            # Only the end is waited for, so nothing is replayed: the log may be long.
            for _ in follow(self._from_now, patience=patience):
                pass
        return outcome

    def _from_start(self, cursor: str | None, timeout_s: float | None) -> Connection:
        return self._transport.connect(self.id, cursor, timeout_s=timeout_s)

    def _from_now(self, cursor: str | None, timeout_s: float | None) -> Connection:
        return self._transport.connect(self.id, cursor, is_from_now=True, timeout_s=timeout_s)

    def cancel(self) -> str:
        """Ask for the job to be cancelled; the state it is in now. Cancelling twice is no error."""
        return self._transport.cancel(self.id)

    def record(self) -> dict[str, Any]:
        """The job as the server has it: state, attempt, queue_position, progress, times, error."""
        return self._transport.record(self.id)

    def logs(self) -> list[LogLine]:
        """What the job's ranks printed so far, oldest first."""
        return self._transport.logs(self.id)


class Client:
    """A Rankcast server at `url` (default: RANKCAST_URL, else http://127.0.0.1:8700).

    Threads may share one. Use it as a context manager, or `close()` it, to end its connections.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = (url or os.environ.get("RANKCAST_URL") or DEFAULT_URL).rstrip("/")
        self._transport = HttpTransport(self.url)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def submit(
        self,
        task: str,
        input: Mapping[str, Any] | None = None,
        /,
        *,
        options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Job:
        """Queue a job; returns as soon as it is accepted.

        The same submit again, under the same `idempotency_key` (1 to 255 printable ASCII
        characters), returns the job of the first; so it may be repeated after an answer was lost.
        Another submit under that key is refused: RequestRefused, with `status` 409.

        The input is one mapping or keywords, not both. `options` may have priority (0 first … 9
        last), start_timeout_s, timeout_s, total_timeout_s and ttl_s. Raises UnknownTask, InvalidInput (with
        `faults`), QueueFull, StoreUnavailable, ServerUnreachable.
        """
        if input is not None and fields:
            raise TypeError("give the task's input as one mapping or as keywords, not both")
        job_id = self._transport.submit(
            task, fields if input is None else dict(input), options or {}, idempotency_key
        )
        return self.job(job_id)

    def job(self, job_id: str) -> Job:
        """The job of that id; nothing is asked yet, so it may not exist."""
        return Job(job_id, self._transport)

    def jobs(
        self, *, task: str | None = None, state: str | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Records of the newest `limit` jobs, newest first, of one task or in one state if asked."""
        asked = {"task": task, "state": state, "limit": limit}
        params = {name: value for name, value in asked.items() if value is not None}
        return list(self._transport.json("GET", "/jobs", params=params)["jobs"])

    def tasks(self) -> list[dict[str, Any]]:
        """Every task that a worker ever registered: name, schemas, world_size, live workers."""
        return list(self._transport.json("GET", "/tasks")["tasks"])

    def workers(self) -> list[dict[str, Any]]:
        """The live workers: host, slots, and what runs in each."""
        return list(self.status()["workers"])

    def status(self) -> dict[str, Any]:
        """The live workers and the length of every task's queue: {"workers": […], "queues": […]}."""
        return dict(self._transport.json("GET", "/workers"))
