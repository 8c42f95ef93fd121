"""A whole deployment of real processes: two web tiers, two hosts, one Redis; and what Redis knows."""

import contextlib
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import orjson
from helpers import inconsistencies, wait_until

from chaos.checker import Job, Told, Watched
from chaos.clients import Accepted, Viewer
from chaos.notes import FOLDER, HOLDS, Notebook
from chaos.parts import Host, Part, Redis, Web
from rankcast.tasks.errors import StoreUnavailable, UnknownJob
from rankcast.tasks.event import START
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import JobRecord
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore

#: What a drain leaves running jobs here.
DRAIN_TIMEOUT_S = 1


class Deployment:
    """One Redis and hosts behind it, whatever runs there. Used from one thread."""

    #: Ranks of a task.
    world_size: int
    hosts: Sequence[Part]
    webs: Sequence[Part] = ()

    def __init__(self, folder: Path) -> None:
        self.redis = Redis(folder)
        self._holds = folder / "holds"
        noted = folder / "notes"
        for each in (self._holds, noted):
            each.mkdir()
        self.notebook = Notebook(noted)
        #: In the environment of hosts.
        self.told = {FOLDER: str(noted), HOLDS: str(self._holds)}

    @property
    def _behind_redis(self) -> list[Part]:
        return [*self.webs, *self.hosts]

    def heal(self) -> None:
        """Start what is not up, as a process manager does, let everything go on, and wait until all serve."""
        self.release_all()
        for part in (self.redis, *self._behind_redis):
            if part.is_up:
                part.send_all(signal.SIGCONT)
            else:
                part.start()
            if part is self.redis:
                part.wait_ready()
                self.resume_writes()
        for part in self._behind_redis:
            part.wait_ready()

    def stop(self) -> list[str]:
        """End it all in good order; what is left of it."""
        self.release_all()
        left = [line for part in (*self._behind_redis, self.redis) for line in part.end()]
        self.redis.client.close()
        return left

    # Holding probes where they are

    def hold(self, name: str) -> None:
        (self._holds / name).touch()

    def release(self, name: str) -> None:
        (self._holds / name).unlink(missing_ok=True)

    def release_all(self) -> None:
        for path in self._holds.iterdir():
            path.unlink(missing_ok=True)

    def resume_writes(self) -> None:
        self.redis.client.client_unpause()


class System(Deployment):
    """Ours: two web tiers, two hosts, and what Redis knows of the jobs."""

    world_size = 2
    hosts: Sequence[Host]
    webs: Sequence[Web]

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        (folder / "shared").mkdir()
        more = dict(env or {})
        told = {**self.told, "RANKCAST_DRAIN_TIMEOUT_S": str(DRAIN_TIMEOUT_S)}
        self.webs = [Web(name, folder, self.redis.url, more) for name in ("web-1", "web-2")]
        self.hosts = [Host(name, folder, self.redis.url, told | more) for name in ("gpu-1", "gpu-2")]
        settings = Settings(redis_url=self.redis.url, broker_url=self.redis.url)
        self.store = JobStore(self.redis.client, settings)
        self._log = EventLog(self.redis.client, settings)

    # What is known of a job

    def record(self, job_id: str) -> JobRecord | None:
        """None for a job that is not there: known once all have told a restarted Redis what it lost."""

        def found() -> tuple[JobRecord | None] | None:
            with contextlib.suppress(StoreUnavailable):
                return (self._record(job_id),)
            return None

        return wait_until(found, f"what Redis knows of job {job_id}")[0]

    def _record(self, job_id: str) -> JobRecord | None:
        try:
            return self.store.record(job_id)
        except UnknownJob:
            return None

    def host_of(self, record: JobRecord) -> Host:
        name = (record.worker or "").partition(":")[0]
        return next(host for host in self.hosts if host.name == name)

    def log(self, job_id: str) -> list[Told]:
        """The event log so far."""
        events = [event for page in self._pages(job_id) for event in page]
        return [Told(id=str(each.id), kind=each.kind, data=(each.data or b"").decode()) for each in events]

    def _pages(self, job_id: str) -> Iterator[Sequence]:
        cursor = START
        while page := self._log.read(job_id, cursor):
            yield page
            cursor = page[-1].id

    def evidence(self, accepted: Sequence[Accepted], viewers: Sequence[Viewer]) -> Iterator[Job]:
        """All that is known of these jobs, one after the other."""
        by_job: dict[str, list[Viewer]] = {}
        for viewer in viewers:
            by_job.setdefault(viewer.job_id, []).append(viewer)
        self.notebook.read()
        for job in accepted:
            record = self.record(job.job_id)
            output = None if record is None else self.store.output(job.job_id)
            yield Job(
                job_id=job.job_id,
                task=job.task,
                is_cancel_asked=job.is_cancel_asked,
                is_cancelled=job.is_cancelled,
                state=record and record.state.value,
                losses=record.losses if record else 0,
                output=output and orjson.loads(output),
                error=record and record.error,
                log=self.log(job.job_id),
                notes=self.notebook.of.get(job.job_id, ()),
                viewers=[_watched(viewer) for viewer in by_job.get(job.job_id, ())],
            )

    def inconsistencies(self) -> list[str]:
        """Where records and indexes in Redis do not agree."""
        return inconsistencies(self.redis.client)


def _watched(viewer: Viewer) -> Watched:
    frames = [Told(id=frame.id, kind=frame.kind, data=frame.data) for frame in viewer.frames]
    return Watched(frames=frames, is_complete=viewer.is_complete)
