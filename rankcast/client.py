"""The sync client: submit a job, watch its events, have its result.

The rules are those of async_client.py, run over I/O that blocks (blocking.py says how).
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rankcast.async_client import DEFAULT_URL, AsyncClient, AsyncEventStream, AsyncJob
from rankcast.blocking import iterate, run
from rankcast.event import Event
from rankcast.files import Reference
from rankcast.http_io import BlockingIo
from rankcast.over_http import ANSWER_S
from rankcast.transport import LogLine, Transport
from rankcast.uploads import Source

__all__ = ["DEFAULT_URL", "Client", "Event", "EventStream", "Job"]


class EventStream(Iterator[Event]):
    """The events of one job, `job`, to be iterated once.

    Leaving the loop drops the connection; where the stream itself is kept, `close` it, or use it in
    a `with`.
    """

    def __init__(self, job: "Job", events: AsyncEventStream) -> None:
        self.job = job
        self._events = iterate(events)

    def __next__(self) -> Event:
        return next(self._events)

    def close(self) -> None:
        self._events.close()

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Job:
    """One submission of a task, by its id. Holds no state: every call asks."""

    def __init__(self, id: str, transport: Transport) -> None:
        self.id = id
        self._rules = AsyncJob(id, transport)

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def stream(self, last_event_id: str | None = None, *, timeout_s: float | None = None) -> EventStream:
        """Every event of the job, in order, each once: those behind `last_event_id`, then live.

        Broken connections are resumed by themselves. Ends after the `end` event, and at once if that
        is `last_event_id`. ServerUnreachable if the first connection cannot be made, UnknownJob if
        there is no such job (any more), TimeoutError if it has not ended in `timeout_s`.
        """
        return EventStream(self, self._rules.stream(last_event_id, timeout_s=timeout_s))

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the job to end; its output.

        JobFailed or JobCancelled, with the job's `error` object, if it ended so; TimeoutError if it has
        not ended in `timeout_s` (the job goes on).
        """
        return run(self._rules.result(timeout_s))

    def cancel(self) -> str:
        """Ask for the job to be cancelled; the state it is in now. Cancelling twice is no error."""
        return run(self._rules.cancel())

    def record(self) -> dict[str, Any]:
        """The job as the server has it: state, attempt, queue_position, progress, times, error."""
        return run(self._rules.record())

    def logs(self) -> list[LogLine]:
        """What the job's ranks printed so far, oldest first."""
        return run(self._rules.logs())

    def follow_logs(self, *, timeout_s: float | None = None) -> Iterator[LogLine]:
        """What the job's ranks print, from the first line kept until the job has ended.

        TimeoutError if it has not ended in `timeout_s`.
        """
        return iterate(self._rules.follow_logs(timeout_s=timeout_s))

    def download(
        self, reference: Reference, path: str | os.PathLike[str], *, timeout_s: float | None = None
    ) -> Path:
        """As `Client.download`."""
        return run(self._rules.download(reference, path, timeout_s=timeout_s))


class _BlockingRules(AsyncClient):
    """The same rules, where every `await` has its answer when it is reached."""

    _io_class = BlockingIo


class Client:
    """A Rankcast server at `url` (default: RANKCAST_URL, else http://127.0.0.1:8700).

    `key` (default: RANKCAST_KEY) says who asks, where the server wants to know. `timeout_s` is the time
    for each single answer. Threads may share one. Use it as a context manager, or `close()` it, to end
    its connections.
    """

    def __init__(
        self, url: str | None = None, *, key: str | None = None, timeout_s: float = ANSWER_S
    ) -> None:
        self._rules = _BlockingRules(url, key=key, timeout_s=timeout_s)
        self.url = self._rules.url

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        run(self._rules.aclose())

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
        Another submit under that key is refused: IdempotencyKeyReused, with the `job_id` of the first.

        The input is one mapping or keywords, not both. `options` may have priority (0 first … 9
        last), start_timeout_s, timeout_s, total_timeout_s and ttl_s. Raises UnknownTask, InvalidInput (with
        `faults`), NotAllowed, QueueFull, StoreUnavailable, ServerUnreachable.
        """
        submitted = self._rules.submit(
            task, input, options=options, idempotency_key=idempotency_key, **fields
        )
        return self.job(run(submitted).id)

    def run(
        self,
        task: str,
        input: Mapping[str, Any] | None = None,
        /,
        *,
        timeout_s: float | None = None,
        options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Any:
        """Submit a job and wait for its output: `submit`, then `Job.result(timeout_s)`."""
        job = self.submit(task, input, options=options, idempotency_key=idempotency_key, **fields)
        return job.result(timeout_s)

    def stream(
        self,
        task: str,
        input: Mapping[str, Any] | None = None,
        /,
        *,
        timeout_s: float | None = None,
        options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> EventStream:
        """Submit a job and watch it: `submit`, then `Job.stream`. The job is the stream's `job`."""
        job = self.submit(task, input, options=options, idempotency_key=idempotency_key, **fields)
        return job.stream(timeout_s=timeout_s)

    def job(self, job_id: str) -> Job:
        """The job of that id; nothing is asked yet, so it may not exist."""
        return Job(job_id, self._rules._transport)

    def jobs(
        self, *, task: str | None = None, state: str | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Records of the newest `limit` jobs, newest first, of one task or in one state if asked."""
        return run(self._rules.jobs(task=task, state=state, limit=limit))

    def tasks(self) -> list[dict[str, Any]]:
        """Every task that a worker ever registered: name, schemas, world_size, live workers."""
        return run(self._rules.tasks())

    def workers(self) -> list[dict[str, Any]]:
        """The live workers: host, slots, and what runs in each."""
        return run(self._rules.workers())

    def status(self) -> dict[str, Any]:
        """The live workers and the length of every task's queue: {"workers": […], "queues": […]}."""
        return run(self._rules.status())

    def download(
        self, reference: Reference, path: str | os.PathLike[str], *, timeout_s: float | None = None
    ) -> Path:
        """Write what `reference` stands for to the file `path`, or into the directory `path`.

        `reference` is what a task's events and output have in the place of a large value,
        `{"url": …, "file_name": …}`, or its url alone. A connection that breaks is resumed where it
        broke, and the file appears when it is complete. The path of the file; TimeoutError if it is not
        there in `timeout_s`, ValueError for a url of another server.
        """
        return run(self._rules.download(reference, path, timeout_s=timeout_s))

    def upload(
        self, source: Source, file_name: str | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Store a file on the server, for a while, to be named in an input by its `url`.

        `source` is a path, the bytes themselves, or a file that is open for reading; it is sent piece by
        piece. {"url", "content_type", "file_name", "file_size"}. A connection that breaks is
        ConnectionLost: nothing was stored, send it again. TimeoutError if it is not done in `timeout_s`.
        """
        return run(self._rules.upload(source, file_name, timeout_s=timeout_s))
