"""All that one worker process holds, from its boot to its end.

`Runtime(...)` is made in the main thread and decides what this worker can run. `open` connects it:
from then on it takes jobs, in Celery's pool threads, one a slot. Its own threads are few and each
does one thing: leases, the control channel, the heartbeat, wake-ups, unused slots, printed lines,
the sweep.
"""

import contextlib
import gc
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from celery import Celery

from rankcast.gpu_worker.attempt import Parts, Ran, run_attempt
from rankcast.gpu_worker.control import ControlChannel
from rankcast.gpu_worker.forkserver import ForkServer, TaskDescription
from rankcast.gpu_worker.group import GroupFailed, RankGroup
from rankcast.gpu_worker.identity import has_died, own_id
from rankcast.gpu_worker.joblogs import JobLines, LogWriter
from rankcast.gpu_worker.lease import LeaseKeeper
from rankcast.gpu_worker.loading import Loader, end_quarantines, hand_back, unload
from rankcast.gpu_worker.settings import WorkerSettings
from rankcast.gpu_worker.slots import Slots, lay_out
from rankcast.gpu_worker.supervision import Control
from rankcast.gpu_worker.ticker import Ticker
from rankcast.gpu_worker.wakeups import LOOK_EVERY_S, WakeUps, own_queue
from rankcast.tasks.catalog import Catalog, SlotInfo, TaskInfo, WorkerInfo
from rankcast.tasks.connect import connect
from rankcast.tasks.disk import refuse_unwritable, remove, remove_forgotten
from rankcast.tasks.errors import StoreUnavailable, UnknownJob
from rankcast.tasks.logs import JobLogs
from rankcast.tasks.shared import SharedFolder
from rankcast.tasks.store import JobStore
from rankcast.tasks.sweep import Sweep, SweepThread
from rankcast.tasks.takeover import Takeover

HEARTBEAT_EVERY_S = 1.0
#: How late an idle group may be closed, or a slot come out of quarantine, at most.
SLOTS_LOOK_S = 1.0
#: How often to look for files of jobs that are forgotten.
FILES_LOOK_S = 600.0
#: Another worker on this host may have died.
NEIGHBOURS_LOOK_S = 1.0

logger = logging.getLogger(__name__)


class Runtime:
    """One worker. ValueError or RankcastError, in one line, for what it could never run."""

    def __init__(self, settings: WorkerSettings, app: Celery) -> None:
        if settings.shared is not None:
            refuse_unwritable(settings.shared)
        self.settings = settings
        self.worker_id = own_id(settings.host)
        self.own_queue = own_queue(self.worker_id)
        with _working_directory_on_path():
            self._forkserver = ForkServer.start(settings.tasks, counts_devices=settings.gpus != ())
        try:
            self.tasks = {task.name: task for task in self._forkserver.tasks}
            self.slots: Slots[RankGroup] = Slots(self._lay_out())
        except ValueError:
            self._forkserver.stop()
            raise
        self._info = [_info(task) for task in self.tasks.values()]
        self._started_ms = round(time.time() * 1000)
        self._is_registered = False
        self._folder_id = self._own_folder_id()
        self._ahead = Control()
        self._asked_to_stop: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._redis = connect(settings.deployment.redis_url)
        self._parts = self._make_parts()
        self._catalog = Catalog(self._redis, settings.deployment)
        self._channel = ControlChannel(
            settings.deployment.redis_url, self.worker_id, on_cancel=self._parts.leases.cancel
        )
        self._own = WakeUps(app, self._parts.store, self.slots, list(self.tasks), self.own_queue)
        self._wake_ups = Ticker("wake-ups", LOOK_EVERY_S, self._look)
        self._heartbeat = Ticker("heartbeat", HEARTBEAT_EVERY_S, self._tell)
        self._tending = Ticker(
            "slots", min(SLOTS_LOOK_S, max(0.05, settings.idle_ttl_s / 4)), self._tend_slots
        )
        self._takeover = Takeover(
            self._redis, settings.deployment, has_died=lambda worker: has_died(worker, settings.host)
        )
        self._neighbours = Ticker("neighbours", NEIGHBOURS_LOOK_S, self._take_over)
        self._files = Ticker("files", FILES_LOOK_S, self._remove_forgotten)
        self._sweep = SweepThread(Sweep(self._redis, settings.deployment))

    def _lay_out(self) -> Sequence[tuple[int, ...]]:
        sizes = {task.name: task.world_size for task in self.tasks.values()}
        for name in self.settings.warm:
            if name not in self.tasks:
                raise ValueError(f"--warm {name}: this worker's tasks are {', '.join(sorted(sizes))}")
        return lay_out(self.settings, sizes, self._forkserver.device_count)

    def _make_parts(self) -> Parts:
        deployment = self.settings.deployment
        return Parts(
            worker_id=self.worker_id,
            settings=self.settings,
            store=JobStore(self._redis, deployment),
            slots=self.slots,
            loader=Loader(self._forkserver, self.settings, slot_count=len(self.slots)),
            leases=LeaseKeeper(deployment),
            logs=LogWriter(JobLogs(self._redis)),
        )

    # What Celery calls

    def open(self) -> None:
        """Begin to take jobs."""
        for task in self.tasks.values():
            for warning in task.warnings:
                logger.warning("%s: %s", task.name, warning)
            if task.unforkable:
                logger.warning("%s starts slowly, in new interpreters: %s", task.name, task.unforkable)
        threading.Thread(target=self._heed_stops, name="rankcast-drain", daemon=True).start()
        # What stands by now stays: no look for garbage need go through it again.
        gc.freeze()
        # Before the first claim, so that no cancel falls between.
        self._channel.start()
        for part in (self._parts.leases, self._parts.logs, self._heartbeat, self._wake_ups):
            part.start()
        for ticker in (self._tending, self._neighbours, self._files):
            ticker.start()
        self._sweep.start()
        threading.Thread(target=self._load_ahead, name="rankcast-warm", daemon=True).start()

    def run(self, *, task: str, job_id: str, queue_name: str) -> None:
        """Answer a wake-up that came over `queue_name`. Never raises."""
        description = self.tasks.get(task)
        if description is None:
            logger.warning("a wake-up for %s, which this worker does not serve", task)
            return
        if not self._may_begin():
            return
        try:
            ran = run_attempt(self._parts, description, job_id)
        except StoreUnavailable as error:
            logger.warning("left an attempt at a job of %s without its end: %s", task, error)
        except Exception:
            logger.exception("an attempt at a job of %s failed in the worker itself", task)
        else:
            # A job that was given back has no message any more. One that came without a message may
            # have others behind it for which none comes either.
            if ran is Ran.GIVEN_BACK or (ran is Ran.ENDED and queue_name == self.own_queue.name):
                self._wake_ups.poke()

    def cancel(self, job_id: str) -> None:
        """Cancel a job of any worker, as Celery's `revoke` asks."""
        try:
            self._parts.store.cancel(job_id)
        except UnknownJob:
            logger.info("revoke: there is no job %s", job_id)
        except StoreUnavailable as error:
            logger.error("revoke: job %s was not cancelled: %s", job_id, error)

    @property
    def is_draining(self) -> bool:
        return self._parts.is_draining.is_set()

    def ask_to_stop(self) -> None:
        """Drain soon; asked again, or at the limit of the drain, give up what runs.

        Safe in a signal handler, also in one that interrupts another: a put is reentrant, and the
        lock of an Event is not.
        """
        self._asked_to_stop.put(None)

    def drain(self) -> None:
        """Begin no more attempts, and load nothing ahead."""
        self._parts.is_draining.set()
        self._ahead.abandon()

    def abandon(self) -> None:
        """End the attempts that run, and give their jobs back."""
        self.drain()
        self._parts.is_leaving.set()
        for attempt in list(self._parts.running):
            attempt.leave()

    def close(self) -> None:
        """Leave in good order: every group has run its `teardown`."""
        self.drain()
        for ticker in (
            self._wake_ups,
            self._tending,
            self._neighbours,
            self._files,
            self._heartbeat,
            self._sweep,
        ):
            ticker.stop()
        self._close_groups()
        self._parts.logs.stop()
        self._parts.leases.stop()
        self.leave()

    def leave(self) -> None:
        """Leave nothing behind: no rank, no forkserver, no entry in the catalog. Starts no thread, so
        it may be called while the interpreter ends."""
        self._heartbeat.stop()
        self._channel.stop()
        with contextlib.suppress(StoreUnavailable):
            self._catalog.retire(self.worker_id, list(self.tasks))
        self._forkserver.stop()
        remove(self.settings.scratch / self.worker_id)
        self._ahead.close()
        self._redis.close()

    # What its threads do

    def _may_begin(self) -> bool:
        return self._channel.is_subscribed and not self.is_draining

    def _look(self) -> None:
        if self._may_begin():
            self._own.look()

    def _tell(self) -> None:
        if not self._is_registered:
            self._catalog.register(self._info)
        self._catalog.heartbeat(self._state(), self._info)
        if not self._is_registered and self._channel.is_subscribed:
            self._is_registered = True
            self._tell_strangers()
            logger.info(
                "rankcast worker ready: %s serves %s on %d slots",
                self.worker_id, ", ".join(sorted(self.tasks)), len(self.slots),
            )  # fmt: skip

    def _own_folder_id(self) -> str | None:
        try:
            return SharedFolder(self.settings.shared or self.settings.cache).id()
        except OSError as error:
            logger.warning("no checkpoints can be kept here: %s", error)
            return None

    def _tell_strangers(self) -> None:
        """Workers that do not see one folder cannot go on with each other's checkpoints, and one web tier
        cannot serve what both store. Told at the start of whoever comes later."""
        hosts = {worker.host for worker in self._catalog.workers() if worker.folder_id != self._folder_id}
        if hosts:
            logger.warning(
                "this worker, on %s, stores in %s, and those on %s in another folder: they do not find each "
                "other's checkpoints, and no web tier serves what both store; give all of them one --shared",
                self.settings.host, self.settings.shared or self.settings.cache, ", ".join(sorted(hosts)),
            )  # fmt: skip
        folder = self.settings.folder
        if folder is not None and not folder.is_served:
            logger.warning(
                "no web tier was started with this --shared folder (%s): large results stay inside events "
                "until `rankcast web --shared DIR` names the same one",
                folder.path,
            )

    def _state(self) -> WorkerInfo:
        return WorkerInfo(
            folder_id=self._folder_id,
            worker_id=self.worker_id,
            host=self.settings.host,
            pid=os.getpid(),
            started_ms=self._started_ms,
            version=version("rankcast"),
            tasks=list(self.tasks),
            slots=[
                SlotInfo(
                    index=slot.index,
                    devices=slot.devices,
                    state=slot.state,
                    warm=slot.task,
                    job_id=slot.job_id,
                )
                for slot in self.slots.all()
            ],
        )

    def _take_over(self) -> None:
        for job_id in self._takeover.run_once():
            logger.warning("job %s: taken from a worker that died on this host", job_id)
            # It is in the queue now, and no message tells of it.
            self._wake_ups.poke()

    def _remove_forgotten(self) -> None:
        for left in self.settings.scratch.glob("*"):
            if has_died(left.name, self.settings.host):
                remove(left)
        store, folder = self._parts.store, self.settings.folder
        if folder is not None and (expired := folder.uploads().remove_expired()):
            logger.info("%d uploaded files removed, their time is over", len(expired))
        if (deployment := store.deployment()) is None:
            return
        for job_id in remove_forgotten(self.settings.checkpoints(deployment), store.kept):
            logger.info("job %s: checkpoints removed, the job is forgotten", job_id)
        if folder is not None:
            for job_id in folder.store(deployment).remove_forgotten(store.kept):
                logger.info("job %s: artifacts removed, the job is forgotten", job_id)

    def _load_ahead(self) -> None:
        for name in self.settings.warm:
            slot = self.slots.acquire(name)
            if slot is None:
                logger.error("%s is not loaded ahead of its first job: no slot is free for it", name)
                continue
            lines = JobLines(self._parts.logs, self.settings.host, None)
            try:
                if not slot.is_warm_for(name):
                    self._parts.loader.load(slot, self.tasks[name], control=self._ahead, lines=lines)
            except GroupFailed as failed:
                logger.error("%s could not be loaded ahead of its first job: %s", name, failed)
            finally:
                hand_back(self.slots, slot)

    def _heed_stops(self) -> None:
        self._asked_to_stop.get()
        self.drain()
        timeout_s = self.settings.drain_timeout_s
        try:
            self._asked_to_stop.get(timeout=timeout_s)
        except queue.Empty:
            if self._parts.running:
                logger.warning("drained for %g s: jobs that still run go back to their queue", timeout_s)
        self.abandon()

    def _tend_slots(self) -> None:
        end_quarantines(self.slots)
        while slot := self.slots.acquire_idle(self.settings.idle_ttl_s):
            try:
                unload(slot)
            finally:
                hand_back(self.slots, slot)

    def _close_groups(self) -> None:
        """All at once: each may take the time that its `teardown` has."""
        threads = [threading.Thread(target=unload, args=[slot]) for slot in self.slots.all()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def _working_directory_on_path() -> Iterator[None]:
    """Find users' modules from where the worker was started, as `python -m` does. In the forkserver
    only, which takes the path over: here a user's `queue.py` could stand in for the standard one."""
    cwd = os.getcwd()
    sys.path.insert(0, cwd)
    try:
        yield
    finally:
        sys.path.remove(cwd)


def _info(task: TaskDescription) -> TaskInfo:
    return TaskInfo(
        name=task.name,
        input_schema=task.input_schema,
        output_schema=task.output_schema,
        world_size=task.world_size,
        code_version=task.code_version,
        description=task.description,
        timeout_s=task.timeout_s,
        total_timeout_s=task.total_timeout_s,
        stall_s=task.stall_s,
        silence_s=task.silence_s,
        setup_timeout_s=task.setup_timeout_s,
        cancel_grace_s=task.cancel_grace_s,
        retries=task.retries,
    )
