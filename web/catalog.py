"""What can be run, and who runs it: tasks and workers, as the catalog in Redis has them."""

from collections import Counter
from dataclasses import asdict
from typing import Any

import flask

from rankcast.tasks.catalog import TaskInfo
from rankcast.web.responses import json_response
from rankcast.web.services import services

routes = flask.Blueprint("catalog", __name__)


@routes.get("/tasks")
def tasks() -> flask.Response:
    return json_response({"tasks": [_task(info) for info in services().catalog.tasks()]})


@routes.get("/tasks/<owner>/<name>")
def task(owner: str, name: str) -> flask.Response:
    return json_response(_task(services().catalog.task(f"{owner}/{name}")))


@routes.get("/workers")
def workers() -> flask.Response:
    """Live workers with their slots, and how long each task's queue is."""
    to = services()
    alive = to.catalog.workers()
    running = Counter(slot.warm for worker in alive for slot in worker.slots if slot.job_id is not None)
    queues = [
        {"task": info.name, "queued": to.store.queued_count(info.name), "running": running[info.name]}
        for info in to.catalog.tasks()
    ]
    return json_response({"workers": alive, "queues": queues})


def _task(info: TaskInfo) -> dict[str, Any]:
    return asdict(info) | {"urls": {"self": f"/tasks/{info.name}", "stream": f"/run/{info.name}/stream"}}
