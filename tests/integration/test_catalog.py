"""What the web tier knows of tasks and workers, it knows from Redis."""

from dataclasses import asdict, replace

import orjson
import pytest
import redis as redis_py
from helpers import wait_until

from rankcast.tasks import keys
from rankcast.tasks.catalog import Catalog, SlotInfo, TaskInfo, WorkerInfo
from rankcast.tasks.errors import UnknownTask
from rankcast.tasks.settings import Settings

STEPS = TaskInfo(name="acme/steps", input_schema={"type": "object"}, world_size=2, code_version="1")
OTHER = TaskInfo(name="acme/other", input_schema={"type": "object"})
WORKER = WorkerInfo(
    worker_id="gpu-1:42:ab",
    host="gpu-1",
    pid=42,
    started_ms=1,
    version="0.1.0",
    tasks=["acme/steps", "acme/other"],
    slots=[SlotInfo(index=0, devices=[0, 1], state="busy", warm="acme/steps", job_id="j")],
)


@pytest.fixture
def catalog(redis: redis_py.Redis, settings: Settings) -> Catalog:
    return Catalog(redis, settings)


def test_a_registered_task_is_known_to_everybody(catalog: Catalog):
    """All of what its worker told, read back."""
    catalog.register([STEPS, OTHER])
    assert catalog.task("acme/steps") == STEPS
    assert catalog.tasks() == [OTHER, STEPS]


def test_an_unknown_task_is_refused_with_the_names_there_are(catalog: Catalog):
    """Whoever mistyped sees what to type."""
    catalog.register([STEPS])
    for name in ("acme/stepz", ""):
        with pytest.raises(UnknownTask, match="acme/steps"):
            catalog.task(name)


def test_a_task_outlives_its_workers(catalog: Catalog):
    """A name that was once registered stays known; nobody serves it, and that is said."""
    catalog.register([STEPS, OTHER])
    catalog.heartbeat(WORKER)
    assert [task.workers for task in catalog.tasks()] == [1, 1]
    assert catalog.workers() == [WORKER]
    catalog.retire(WORKER.worker_id, WORKER.tasks)
    assert [task.workers for task in catalog.tasks()] == [0, 0]
    assert catalog.workers() == []


def test_a_live_worker_registers_again_what_redis_lost(catalog: Catalog):
    """An emptied Redis knows the tasks again within a heartbeat; a newer registration is not undone."""
    newer = replace(OTHER, code_version="2")
    catalog.register([newer])
    catalog.heartbeat(WORKER, [STEPS, OTHER])
    assert [replace(task, workers=0) for task in catalog.tasks()] == [newer, STEPS]


def test_a_worker_that_falls_silent_is_dead_after_its_time(
    redis: redis_py.Redis, settings: Settings, wait_until
):
    """kill -9 sends no farewell: only the missing heartbeat tells."""
    catalog = Catalog(redis, replace(settings, worker_ttl_s=0.2))
    catalog.register([STEPS])
    catalog.heartbeat(WORKER)
    wait_until(lambda: not catalog.workers(), "the worker's time to live")
    wait_until(lambda: catalog.task("acme/steps").workers == 0, "nobody serves the task")


def test_dead_workers_leave_no_trace_for_ever(redis: redis_py.Redis, settings: Settings):
    """A heartbeat of any worker forgets the ones long gone, so the indexes stay small."""
    catalog = Catalog(redis, replace(settings, worker_ttl_s=0.01))
    catalog.heartbeat(replace(WORKER, worker_id="dead"))

    def only_the_living() -> bool:
        catalog.heartbeat(WORKER)
        members = redis.zrange(keys.WORKERS, 0, -1), redis.zrange(keys.SERVING("acme/steps"), 0, -1)
        return members == ([WORKER.worker_id.encode()],) * 2

    wait_until(only_the_living, "the dead worker is forgotten")


def test_a_field_that_only_a_newer_worker_knows_is_left_out(catalog: Catalog, redis: redis_py.Redis):
    """Workers are updated one by one, and the web tier reads all of them meanwhile."""
    redis.hset(keys.TASKS, "acme/steps", orjson.dumps(asdict(STEPS) | {"colour": "red"}))
    assert catalog.task("acme/steps") == STEPS


def test_a_schema_that_cannot_be_checked_is_never_registered(catalog: Catalog):
    """It would fail every submit of that task, far from where it was written."""
    with pytest.raises(ValueError, match="only its own parts"):
        catalog.register([replace(STEPS, input_schema={"$ref": "http://elsewhere"})])
    assert catalog.tasks() == []
