"""What can be run, and who runs it: tasks and workers, as the catalog in Redis has them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import flask

from rankcast.tasks.catalog import SlotInfo, TaskInfo, WorkerInfo
from rankcast.web.auth import may_see, needs, seen_owner
from rankcast.web.responses import json_response
from rankcast.web.services import services

routes = flask.Blueprint("catalog", __name__)


@routes.get("/tasks")
@needs("read")
def tasks() -> flask.Response:
    return json_response({"tasks": [_task(info) for info in services().catalog.tasks()]})


@routes.get("/tasks/<path:name>")
@needs("read")
def task(name: str) -> flask.Response:
    return json_response(_task(services().catalog.task(name)))


@routes.get("/workers")
@needs("read")
def workers() -> flask.Response:
    """Live workers with their slots, and how long each task's queue is. `shares_folder`: whether what one
    stores can be fetched here; null where this tier has no folder."""
    to = services()
    alive, strangers = to.catalog.workers(), {worker.worker_id for worker in to.strangers()}
    running = Counter(slot.warm for worker in alive for slot in worker.slots if slot.job_id is not None)
    queues = [
        {"task": info.name, "queued": to.store.queued_count(info.name), "running": running[info.name]}
        for info in to.catalog.tasks()
    ]
    told = [
        asdict(worker) | {"shares_folder": None if to.folder is None else worker.worker_id not in strangers}
        for worker in _without_foreign_jobs(alive)
    ]
    return json_response({"workers": told, "queues": queues})


def _without_foreign_jobs(workers: Sequence[WorkerInfo]) -> Sequence[WorkerInfo]:
    """The same without the ids of jobs that the caller may not see."""
    if not seen_owner():
        return workers
    owners = services().store.owners([slot.job_id for each in workers for slot in each.slots if slot.job_id])

    def told(slot: SlotInfo) -> SlotInfo:
        return slot if may_see(owners.get(slot.job_id or "", "")) else replace(slot, job_id=None)

    return [replace(worker, slots=[told(slot) for slot in worker.slots]) for worker in workers]


def _task(info: TaskInfo) -> dict[str, Any]:
    return asdict(info) | {"urls": {"self": f"/tasks/{info.name}", "stream": f"/run/{info.name}/stream"}}
