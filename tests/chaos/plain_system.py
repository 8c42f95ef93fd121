"""The plain Celery way as a deployment to be broken: one Redis, a prefork worker on each of two hosts.

Probes are brought into their phases, and faults injected, by the same code as in our own (phases.py,
faults.py).
"""

import json
import os
import random
import signal
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import redis
from commands import ROOT
from workers import CELERY

from benchmarks.peers import celery_plain
from benchmarks.peers.celery_plain import Viewer
from chaos.clients import Accepted
from chaos.parts import Part
from chaos.phases import CUTS
from chaos.system import Deployment
from rankcast.tasks.state import JobState

#: What Celery says, in our words; all else is running.
_STATES = {
    "PENDING": JobState.QUEUED,
    "SUCCESS": JobState.SUCCEEDED,
    "FAILURE": JobState.FAILED,
    "REVOKED": JobState.CANCELLED,
}


class PlainRecord(NamedTuple):
    """What the result backend knows of a job."""

    job_id: str
    state: JobState


class PlainHost(Part):
    """A host with one worker, which runs one task at a time."""

    def __init__(self, name: str, folder: Path, env: Mapping[str, str]) -> None:
        command = [*CELERY, "-A", "chaos.plain_tasks", "worker", "-P", "prefork", "-c", "1", "-l", "INFO"]
        super().__init__(name, [*command, "-n", f"celery@{name}"], folder=folder, env=env)

    def serves(self) -> bool:
        return f"celery@{self.name} ready." in self.told()

    def send(self, number: signal.Signals) -> None:
        super().send(celery_plain.STOP_SIGNAL if number is signal.SIGTERM else number)


class PlainSystem(Deployment):
    """Celery's workers, and what its Redis knows. Used from one thread."""

    world_size = 1

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        env = {**self.told, celery_plain.URL: self.redis.url, "PYTHONPATH": path}
        self.hosts = [PlainHost(name, folder, env) for name in ("gpu-1", "gpu-2")]
        self.app = celery_plain.make_app(self.redis.url)

    def record(self, job_id: str) -> PlainRecord:
        state = self.app.backend.get_task_meta(job_id)["status"]
        return PlainRecord(job_id, _STATES.get(state, JobState.RUNNING))

    def output(self, job_id: str) -> Mapping[str, Any]:
        """Empty unless it succeeded."""
        meta = self.app.backend.get_task_meta(job_id)
        return meta["result"] if meta["status"] == "SUCCESS" else {}

    def host_of(self, record: PlainRecord) -> Part:
        pid = self.notebook.find(record.job_id, "called")[-1].pid
        return next(host for host in self.hosts if pid in {process.pid for process in host.family()})

    def whereabouts(self, job_id: str) -> str:
        """Where the message of a job is, in the keys of Celery's transport."""
        client: redis.Redis = self.redis.client
        if any(_id_in(message) == job_id for message in client.lrange("celery", 0, -1)):
            return "in the queue"
        if any(_id_in(json.loads(entry)[0]) == job_id for entry in client.hvals("unacked")):
            return "not acknowledged"
        return "gone"


class PlainClients:
    """Who submits, cancels and watches."""

    def __init__(self, system: PlainSystem, rng: random.Random) -> None:
        self._app = system.app
        self._rng = rng
        self._inputs: dict[str, Mapping[str, Any]] = {}
        #: They listened before their job was submitted.
        self._early: dict[tuple[str, float], Viewer] = {}
        self.viewers: list[Viewer] = []

    def close(self) -> None:
        self._app.close()

    def submit(self, task: str, input: Mapping[str, Any], *, priority: int = 5) -> Accepted:
        """`priority` is for what has priorities; nothing competes with probes here."""
        job = Accepted(job_id=str(uuid.uuid4()), task=task)
        self._early = {(job.job_id, cuts): self._viewer(job, cuts) for cuts in CUTS}
        self._inputs[job.job_id] = input
        celery_plain.submit(self._app, task, job.job_id, input)
        return job

    def repeat(self, job: Accepted) -> None:
        """Send the same message once more, as whoever did not hear that it had arrived."""
        celery_plain.submit(self._app, job.task, job.job_id, self._inputs[job.job_id])

    def cancel(self, job: Accepted) -> None:
        job.is_cancel_asked = job.is_cancelled = True
        celery_plain.cancel(self._app, job.job_id)

    def watch(self, job: Accepted, *, cuts: float) -> Viewer:
        viewer = self._early.pop((job.job_id, cuts), None) or self._viewer(job, cuts)
        self.viewers.append(viewer)
        viewer.start()
        return viewer

    def _viewer(self, job: Accepted, cuts: float) -> Viewer:
        return Viewer(self._app, job.job_id, cuts=cuts, rng=random.Random(self._rng.random()))


def _id_in(message: str | bytes | Mapping[str, Any]) -> str:
    """The job of a message, as the queue or the unacknowledged have it."""
    told: Any = message if isinstance(message, Mapping) else json.loads(message)
    return str(told["headers"]["id"])
