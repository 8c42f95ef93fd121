"""Step 1. A submit: look the task up, check the input, write the job, wake a worker.

What is checked is the JSON text that is stored, so what a rank gets is what was checked.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from celery import Celery

from rankcast.tasks.catalog import Catalog, TaskInfo
from rankcast.tasks.celery_app import wake
from rankcast.tasks.errors import Fault, InvalidInput
from rankcast.tasks.idempotency import IdempotencyKey
from rankcast.tasks.job import JobOptions
from rankcast.tasks.schema import Validator
from rankcast.tasks.store import Created, JobStore

#: How long a task that was looked up is taken as known; a name that is not known is always asked for.
CACHE_S = 2.0
_INT64 = range(-(2**63), 2**64)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    info: TaskInfo
    validator: Validator
    until: float


class Submitter:
    """Everybody who submits does it through one of these. Safe to use from any thread."""

    def __init__(
        self,
        *,
        store: JobStore,
        catalog: Catalog,
        app: Celery,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._app = app
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def submit(
        self,
        task: str,
        input: Any,
        options: JobOptions | None = None,
        *,
        job_id: str | None = None,
        key: IdempotencyKey | None = None,
        owner: str = "",
        posted_at: float | None = None,
    ) -> Created:
        """Queue a job of `task`; it stands once this returns, whatever becomes of the broker.

        `input` is anything that JSON has a form for. With the `job_id` of a job that exists, or a
        `key` that came with the same before, nothing is written. `owner` is the id of the API key that
        asks, `posted_at` when its POST came, by `clock`. UnknownTask, InvalidInput, IdempotencyKeyReused,
        QueueFull, StoreUnavailable.
        """
        known = self._look_up(task)
        text = encode_input(input)
        # What was accepted once is not judged again: the schema may have changed since.
        if key is None or not self._store.knows(key):
            known.validator.check(orjson.loads(text))
        created = self._store.create(
            task=task,
            input=text,
            options=options or JobOptions(),
            job_id=job_id,
            key=key,
            total_timeout_s=known.info.total_timeout_s,
            owner=owner,
            accept_ms=None if posted_at is None else (self._clock() - posted_at) * 1000,
        )
        wake(self._app, task=task, job_id=created.job_id)
        return created

    def _look_up(self, task: str) -> _Known:
        known, now = self._known.get(task), self._clock()
        if known is not None and now < known.until:
            return known
        info = self._catalog.task(task)
        is_same = known is not None and known.info.input_schema == info.input_schema
        validator = known.validator if known is not None and is_same else Validator(info.input_schema)
        self._known[task] = known = _Known(info, validator, now + CACHE_S)
        return known


def encode_input(value: Any) -> bytes:
    """JSON text of an input; InvalidInput, with its path, for a value that JSON has no form for."""
    try:
        text = orjson.dumps(value)
    except TypeError as error:
        faults = list(_without_json(value)) or [Fault("$", str(error))]
        raise InvalidInput(faults) from None
    # NaN and infinity were silently written as null.
    if b"null" in text and (faults := list(_without_json(value))):
        raise InvalidInput(faults)
    return text


def _without_json(root: Any) -> Iterator[Fault]:
    """What in a value of plain types has no JSON form."""
    pending: list[tuple[str, Any]] = [("$", root)]
    seen: set[int] = set()
    while pending:
        path, value = pending.pop()
        if isinstance(value, dict | list | tuple):
            # A container that holds itself has no JSON form and no last member.
            if id(value) in seen:
                continue
            seen.add(id(value))
        match value:
            case float() if not math.isfinite(value):
                yield Fault(path, f"{value} has no JSON form; send null or leave it out")
            case int() if value not in _INT64:
                yield Fault(path, "is an integer of more than 64 bits; send it as a string")
            case str() if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
                yield Fault(path, "holds half a surrogate pair, which is no character")
            case dict():
                for name, item in value.items():
                    if isinstance(name, str):
                        pending.append((f"{path}.{name}", item))
                    else:
                        yield Fault(path, f"has the key {name!r}, and keys are strings")
            case list() | tuple():
                pending.extend((f"{path}[{index}]", item) for index, item in enumerate(value))
