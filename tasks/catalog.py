"""Tasks and workers as Redis knows them: all that the web tier ever sees of users' code.

A worker registers its tasks at start, for good: a name that nobody serves now is still known, and
its jobs may wait. The worker itself lives only as long as its heartbeat.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar, cast

import orjson
import redis

from rankcast.tasks import keys
from rankcast.tasks.connect import Scripts, at_the_edge
from rankcast.tasks.errors import UnknownTask
from rankcast.tasks.schema import Validator
from rankcast.tasks.settings import Settings

#: A worker unheard for this many times its time to live leaves the indexes.
FORGET_AFTER_TTLS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """One task, as its worker describes it. Times in seconds, None means no limit."""

    name: str
    #: JSON Schema (draft 2020-12) of the input object.
    input_schema: dict[str, Any]
    #: JSON Schema of the output; None where the code does not say.
    output_schema: dict[str, Any] | None = None
    world_size: int = 1
    #: Changes with the task's source.
    code_version: str = ""
    description: str = ""
    timeout_s: float | None = None
    total_timeout_s: float | None = None
    stall_s: float | None = None
    silence_s: float = 15.0
    setup_timeout_s: float = 600.0
    cancel_grace_s: float = 5.0
    retries: int = 0
    #: Live workers that serve it, when this was read.
    workers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotInfo:
    """One slot of a worker: `state` is idle, loading, busy or quarantined, `warm` the task of its loaded
    group."""

    index: int
    devices: Sequence[int]
    state: str
    warm: str | None = None
    job_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """A live worker, as its heartbeat tells it. `started_ms` is Unix time on the worker's clock."""

    worker_id: str
    host: str
    pid: int
    started_ms: int
    version: str
    tasks: Sequence[str]
    slots: Sequence[SlotInfo]
    #: Tells the folder that it stores in from those of others; None of a worker that does not say.
    folder_id: str | None = None


class Catalog:
    """Writes for workers, reads for everybody. StoreUnavailable where Redis does not answer."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._scripts = Scripts(client)
        self._ttl_ms = int(settings.worker_ttl_s * 1000)

    def register(self, tasks: Sequence[TaskInfo]) -> None:
        """Make these the tasks of their names, now and after this worker is gone.

        ValueError for an input schema that cannot be checked against.
        """
        for task in tasks:
            Validator(task.input_schema)
        with at_the_edge():
            self._redis.hset(keys.TASKS, mapping={task.name: orjson.dumps(task) for task in tasks})

    def heartbeat(self, worker: WorkerInfo, tasks: Sequence[TaskInfo] = ()) -> None:
        """Tell that a worker is alive; to be repeated within `worker_ttl_s`.

        Of `tasks`, the ones that Redis lost are registered again; what a newer worker registered stays.
        """
        forget_ms = self._ttl_ms * FORGET_AFTER_TTLS
        told = {task.name: orjson.dumps(task) for task in tasks}
        served = [part for name in worker.tasks for part in (name, told.get(name, b""))]
        self._scripts.run(
            "heartbeat", worker.worker_id, orjson.dumps(worker), self._ttl_ms, forget_ms, *served
        )

    def retire(self, worker_id: str, tasks: Sequence[str]) -> None:
        """Forget a worker that leaves in good order."""
        with at_the_edge(), self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(keys.WORKER(worker_id))
            pipe.zrem(keys.WORKERS, worker_id)
            for task in tasks:
                pipe.zrem(keys.SERVING(task), worker_id)
            pipe.execute()

    def task(self, name: str) -> TaskInfo:
        """The task of that name; UnknownTask, with the names there are, if none was ever registered."""
        # "" asks for all of them, and is the name of none.
        found = self._read(name) if name else []
        if not found:
            with at_the_edge():
                known = [each.decode() for each in cast(list[bytes], self._redis.hkeys(keys.TASKS))]
            raise UnknownTask(name, known)
        return found[0]

    def tasks(self) -> list[TaskInfo]:
        """Every task ever registered, by name."""
        return sorted(self._read(""), key=lambda task: task.name)

    def workers(self) -> list[WorkerInfo]:
        """Every live worker, by host."""
        with at_the_edge():
            ids = [each.decode() for each in cast(list[bytes], self._redis.zrange(keys.WORKERS, 0, -1))]
            found = self._redis.mget([keys.WORKER(each) for each in ids]) if ids else []
        workers = [_worker(orjson.loads(info)) for info in found if info is not None]
        return sorted(workers, key=lambda worker: (worker.host, worker.worker_id))

    def _read(self, name: str) -> list[TaskInfo]:
        reply = self._scripts.run("tasks", self._ttl_ms, name)
        return [
            _known(TaskInfo, orjson.loads(info) | {"workers": workers})
            for info, workers in zip(reply[::2], reply[1::2], strict=True)
        ]


T = TypeVar("T")


def _known(cls: type[T], values: dict[str, Any]) -> T:
    """Build from JSON; a field that only a newer worker knows is left out."""
    names = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    return cls(**{name: value for name, value in values.items() if name in names})


def _worker(values: dict[str, Any]) -> WorkerInfo:
    slots = [_known(SlotInfo, slot) for slot in values.pop("slots")]
    return _known(WorkerInfo, values | {"slots": slots})
