"""Real workers for tests: `with worker(url, "steady.py") as it: ...`, or a whole `Site` around one."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import redis as redis_py
from commands import RANKCAST
from helpers import clean_env, marked, wait_until

from rankcast.tasks.catalog import Catalog
from rankcast.tasks.celery_app import make_app, queue, wake
from rankcast.tasks.connect import connect
from rankcast.tasks.event import START, Event
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import JobOptions, JobRecord
from rankcast.tasks.logs import JobLogs
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore
from rankcast.tasks.submit import Submitter

TASKS = Path(__file__).parent / "fixtures" / "tasks"
#: As the command does, which leaves the working directory off the path.
CELERY = (sys.executable, "-P", "-m", "celery")
#: A worker imports torch and the tasks before it is ready.
START_TIMEOUT_S = 60.0


class Worker:
    """A worker process that was started."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, env: Mapping[str, str]) -> None:
        self.process = process
        self._log = log
        self._env = env

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_ready(self) -> None:
        def is_ready_or_over() -> bool:
            return "rankcast worker ready" in self.log or self.process.poll() is not None

        wait_until(is_ready_or_over, "the worker is ready", timeout_s=START_TIMEOUT_S)
        assert self.process.poll() is None, self.log

    def wait_log(self, text: str) -> None:
        wait_until(lambda: text in self.log, f"{text!r} in the worker's log")

    def family(self) -> list[str]:
        """It, its forkserver and its ranks, as far as they live; also those that lost their parent."""
        return marked(self._env)

    @property
    def ranks(self) -> list[int]:
        """The processes of the group that it loaded last, in order of rank."""
        return [int(pid) for pid in re.findall(r" ms, pids \((.*)\)", self.log)[-1].split(",") if pid]

    def wait_gone(self) -> None:
        """Nothing of it is left, a rank that its parent's death should have ended included."""
        wait_until(lambda: not self.family(), f"the end of {self.family()}")

    def stop(self, how: signal.Signals = signal.SIGTERM, timeout_s: float = 30.0) -> int:
        """Send the signal and wait; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout_s)


@contextmanager
def worker(
    url: str,
    *specs: str,
    folder: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    is_command: bool = False,
    is_ready: bool = True,
    leads_group: bool = False,
    control_group: Path | None = None,
) -> Iterator[Worker]:
    """`celery -A rankcast.gpu_worker.worker worker` with these tasks; its log lies in `folder`.

    `is_command`: the same as `rankcast worker`, told by its options instead of the environment.
    `leads_group`: in a process group of its own. `control_group`: it and all that it starts live there.
    """
    log = folder / f"worker-{len(list(folder.glob('worker-*')))}.log"
    specs = tuple(str(TASKS / spec) if (TASKS / spec).exists() else spec for spec in specs)
    if is_command:
        tasks = [word for spec in specs for word in ("--tasks", spec)]
        command = [*RANKCAST, "worker", *tasks, "--gpus", "none", "--redis-url", url, *options]
        told = clean_env(**(env or {}))
    else:
        name = ("-n", f"{log.stem}@%h", "--without-mingle", "--without-gossip")
        command = [*CELERY, "-A", "rankcast.gpu_worker.worker", "worker", "-l", "INFO", *name, *options]
        by_env = {
            "RANKCAST_REDIS_URL": url,
            "RANKCAST_TASKS": os.pathsep.join(specs),
            "RANKCAST_GPUS": "none",
        }
        told = clean_env(**{**by_env, **(env or {})})
    if control_group is not None:
        enter = f'echo $$ > "{control_group}/cgroup.procs" && exec "$@"'
        command = ["sh", "-c", enter, "sh", *command]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=cwd or folder,
            env=told,
            stdout=out,
            stderr=subprocess.STDOUT,
            process_group=0 if leads_group else None,
        )
    started = Worker(process, log, told)
    try:
        if is_ready:
            started.wait_ready()
        yield started
    finally:
        started.stop()
        started.wait_gone()


class Site:
    """Everything beside one Redis that a test of workers needs: submit, look, wait."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.settings = Settings(redis_url=url, broker_url=url)
        self.redis: redis_py.Redis = connect(url)
        self.store = JobStore(self.redis, self.settings)
        self.log = EventLog(self.redis, self.settings)
        self.logs = JobLogs(self.redis)
        self.catalog = Catalog(self.redis, self.settings)
        self.app = make_app(self.settings)
        self._submitter = Submitter(store=self.store, catalog=self.catalog, app=self.app)

    def close(self) -> None:
        self.app.close()
        self.redis.close()

    def submit(self, task: str, input: dict[str, Any] | None = None, **options: Any) -> str:
        """Queue a job; its id."""
        return self._submitter.submit(task, input or {}, JobOptions(**options)).job_id

    def wake(self, task: str, job_id: str) -> None:
        """Send the workers of a task one more message."""
        assert wake(self.app, task=task, job_id=job_id)

    def wake_through(self, queue_name: str, task: str, job_id: str) -> None:
        """Send that message through another queue."""
        assert wake(self.app, task=task, job_id=job_id, to=queue(queue_name))

    def forget_jobs(self) -> None:
        """End what a test left queued or claimed on purpose, and drop its messages."""
        self.redis.flushall()

    def wait_ended(self, job_id: str, timeout_s: float = 30.0) -> JobRecord:
        def ended() -> JobRecord | None:
            record = self.store.record(job_id)
            return record if record.state.is_terminal else None

        return wait_until(ended, f"the end of job {job_id}", timeout_s=timeout_s)  # type: ignore[return-value]

    def wait_event(self, job_id: str, text: str) -> Event:
        """The first event whose data holds `text`."""

        def found() -> Event | None:
            return next(
                (event for event in self.events(job_id) if text in (event.data or b"").decode()), None
            )

        return wait_until(found, f"an event with {text!r} of job {job_id}")  # type: ignore[return-value]

    def events(self, job_id: str) -> list[Event]:
        """The log so far, from the start."""
        events: list[Event] = []
        while page := self.log.read(job_id, events[-1].id if events else START):
            events += page
        return events


def kill(pid: int) -> None:
    """SIGKILL, and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), f"the end of {pid}")


def is_alive(pid: int) -> bool:
    """Whether it runs; one that only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
