"""A whole deployment in one thread: the real scripts and the real Python sides, moved step by step.

Two web processes (one submits, one cancels; each has a hub's feeds and viewers), two workers (parent
and rank 0, each a process of its own), sweeps in all of them, on a Redis that restarts without its
last scripts. What only threads and processes do, the one who walks through it decides: who comes next,
which replies and messages are lost, who stands still, who dies. `World.check` holds after every step,
`World.heal` brings everything to its end.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from itertools import count, takewhile
from typing import NamedTuple

from jobs import TASK
from protocol_parts import Viewer, Violation, Web, Worker
from rewinding_redis import Ran, RewindingRedis

from rankcast.tasks.errors import StoreUnavailable, UnknownJob
from rankcast.tasks.event import END, RESULT, START, Event, EventId
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Claim, JobOptions
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore

#: Of the beats of a tick: two web processes, then renew, sweep and rank 0 of each worker.
ORDER = tuple(range(8))


def _rest() -> None:
    """Who stands still."""


class Ended(NamedTuple):
    """An end that stood in Redis: the event, and the process that wrote it."""

    event: Event
    by: str


class World:
    """The deployment, what it was told, and what it must keep."""

    def __init__(self, redis: RewindingRedis) -> None:
        self.redis = redis
        self.settings = Settings(max_losses=1000)
        self._numbers = count(1)
        self.webs = [Web(self, "web0"), Web(self, "web1")]
        self.workers = [Worker(self, "w0"), Worker(self, "w1")]
        self.job_ids: list[str] = []
        self.viewers: list[Viewer] = []
        self.emitted: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        self.cut: set[tuple[str, int]] = set()
        #: Jobs whose cancel was acknowledged, with the ends that had been there before.
        self.cancelled: dict[str, list[Event]] = {}
        self.ends: defaultdict[str, list[Ended]] = defaultdict(list)
        #: Ends that a restart undid although their writer lives: they come back.
        self._owed: dict[str, Ended] = {}
        self.lost_whole: set[str] = set()
        self._eye = EventLog(redis.client("eye"), self.settings)
        self._books = JobStore(redis.client("eye"), self.settings)

    def new_token(self) -> str:
        return f"token{next(self._numbers)}"

    # What people and processes do

    def submit(self) -> str | None:
        """Over the first web process; None when no 202 came."""
        job_id = f"job{next(self._numbers)}"
        try:
            self.webs[0].store.create(task=TASK, input=b"{}", options=JobOptions(), job_id=job_id)
        except StoreUnavailable:
            return None
        self.job_ids.append(job_id)
        return job_id

    def cancel(self, job_id: str) -> bool:
        """Over the second web process; whether it was acknowledged and is to decide."""
        before = [ended.event for ended in self.ends[job_id]]
        try:
            reply = self.webs[1].store.cancel(job_id)
        except StoreUnavailable:
            return False
        except UnknownJob:
            raise Violation(f"{job_id} was accepted, and is unknown to whoever cancels it") from None
        if not reply.is_ended:
            self.cancelled.setdefault(job_id, before)
        return not reply.is_ended

    def tick(self, seconds: float = 1.0, order: Sequence[int] = ORDER) -> None:
        """Time passes, then all that stand not still beat, in that order."""
        self.redis.now_s += seconds
        beats = [*[web.beat for web in self.webs]]
        for worker in self.workers:
            beats += (
                [worker.beat, worker.sweep, worker.rank_log.look] if not worker.is_frozen else [_rest] * 3
            )
        for index in order:
            with suppress(StoreUnavailable):
                beats[index]()

    def outage(self, seconds: float, order: Sequence[int] = ORDER) -> None:
        """Redis is away for so long; nobody can call it."""
        with self.redis.away():
            self._disconnected()
            self.redis.now_s += seconds
        self.tick(0, order)

    def crash(self, lost: int) -> None:
        """Redis is killed, and comes back without its last `lost` scripts."""
        gone = self.redis.restart_without(lost)
        self._disconnected()
        touched = defaultdict(list)
        for ran in gone:
            for job_id in ran.touched():
                touched[job_id].append(ran)
        for job_id, scripts in touched.items():
            self._lost(job_id, scripts)

    def crash_to(self, newest: Ran) -> None:
        """It comes back with this as its newest script."""
        self.crash(len(list(takewhile(lambda ran: ran is not newest, reversed(self.redis.ran)))))

    def freeze(self, worker: Worker) -> None:
        worker.is_frozen = worker.is_excused = True
        self._forgive(worker.name)

    def thaw(self, worker: Worker) -> None:
        worker.is_frozen = False

    def kill(self, index: int) -> None:
        """A worker dies, with its rank; another starts in its place."""
        self._forgive(self.workers[index].name)
        self.workers[index] = Worker(self, f"w{index}.{next(self._numbers)}")

    # What must hold

    def check(self) -> None:
        """The logs are whole, and every end is written down."""
        for job_id in self.job_ids:
            log = self.log_of(job_id)
            if not log:
                continue
            self._check_log(job_id, log)
            if log[-1].kind == END and log[-1] not in [ended.event for ended in self.ends[job_id]]:
                by = next(ran.process for ran in reversed(self.redis.ran) if job_id in ran.touched())
                self.ends[job_id].append(Ended(log[-1], by))

    def fenced(self, worker: Worker, claim: Claim, why: Exception) -> None:
        """A worker learns that it has lost its job."""
        is_ended = any(ended.by.startswith("web") for ended in self.ends[claim.job_id])
        if not (worker.is_excused or is_ended or claim.job_id in self.lost_whole):
            raise Violation(f"healthy {worker.name} lost {claim.job_id}, attempt {claim.attempt}: {why}")

    def heal(self) -> None:
        """Everybody thaws, Redis stays, nothing is lost any more: all that was promised comes true."""
        for worker in self.workers:
            self.thaw(worker)
            worker.client.loses_reply = worker.rank.loses_reply = False
        for web in self.webs:
            web.client.loses_reply = False
        for _ in range(25):
            self.tick(4)
            self._work()
            self.check()
            if all(self._has_ended(job_id) for job_id in self.job_ids):
                break
        for web in self.webs:
            web.hear()
            web.compare()
        for job_id in self.job_ids:
            self._check_outcome(job_id)
        for job_id, owed in self._owed.items():
            self._check_end(job_id, owed)
        for viewer in self.viewers:
            self._check_viewer(viewer)

    def log_of(self, job_id: str) -> list[Event]:
        return self._eye.read(job_id, START, 100_000)

    def _work(self) -> None:
        """Every worker brings what it has to an end."""
        for worker in self.workers:
            for _ in range(8):
                worker.order = worker.order or "succeed"
                worker.step()
                worker.publisher.step()

    def _has_ended(self, job_id: str) -> bool:
        log = self.log_of(job_id)
        return bool(log) and log[-1].kind == END

    def _check_log(self, job_id: str, log: Sequence[Event]) -> None:
        prevs = [START, *(event.id for event in log[:-1])]
        if [event.prev for event in log] != prevs or log[0].id != EventId(0, 1):
            raise Violation(f"the chain of {job_id} is broken: {log}")
        for event in log:
            if event.id.seq != (event.prev.seq + 1 if event.prev.fence == event.id.fence else 1):
                raise Violation(f"a hole before {event} of {job_id}: {log}")
            if event.kind == END and event is not log[-1]:
                raise Violation(f"something follows the end of {job_id}: {log}")
        record = self._books.record(job_id)
        if record.state.is_terminal != (log[-1].kind == END) or record.last != log[-1].id:
            raise Violation(f"{job_id} is {record.state} up to {record.last}: {log}")
        for fence in {event.id.fence for event in log}:
            self._check_attempt(job_id, fence, [event for event in log if event.id.fence == fence])

    def _check_attempt(self, job_id: str, fence: int, events: Sequence[Event]) -> None:
        results = [event.data for event in events if event.kind == RESULT and event.data]
        writers = {data.split(b",")[0] for data in results}
        if len(writers) > 1:
            raise Violation(f"two writers in attempt {fence} of {job_id}: {results}")
        if [int(data.split(b",")[1][:-1]) for data in results] != list(range(len(results))):
            raise Violation(f"attempt {fence} of {job_id} is not what was streamed: {results}")
        is_success = events[-1].kind == END and b"succeeded" in (events[-1].data or b"")
        told = self.emitted[job_id, fence]
        if is_success and len(results) < len(told) and (job_id, fence) not in self.cut:
            raise Violation(f"{job_id} succeeded without {len(told) - len(results)} of its events")

    def _check_outcome(self, job_id: str) -> None:
        if not self._has_ended(job_id):
            raise Violation(f"{job_id} is stuck: {self.log_of(job_id)}")
        end = self.log_of(job_id)[-1]
        allowed = [before.data for before in self.cancelled.get(job_id, ())]
        if job_id in self.cancelled and b'"cancelled"' not in (end.data or b"") and end.data not in allowed:
            raise Violation(f"the cancel of {job_id} was acknowledged, and it ended as {end}")

    def _check_end(self, job_id: str, owed: Ended) -> None:
        found = self.log_of(job_id)
        # A cancel ends the job where its log ends now; what a worker did stands where it did it.
        if found[-1].data != owed.event.data or (found[-1] != owed.event and not owed.by.startswith("web")):
            raise Violation(f"the end {owed.event} of {job_id} was seen, and its writer lives: {found}")

    def _check_viewer(self, viewer: Viewer) -> None:
        """It comes back once more, as a browser does, and reads to the end."""
        viewer.come(self.webs[0])
        viewer.read()
        log = self.log_of(viewer.job_id)
        if list(map(_as_shown, viewer.seen)) != list(map(_as_shown, log)):
            raise Violation(f"a viewer saw {viewer.seen}, untold, and the log is {log}")

    def _forgive(self, name: str) -> None:
        self._owed = {job_id: owed for job_id, owed in self._owed.items() if owed.by != name}

    def _disconnected(self) -> None:
        for web in self.webs:
            web.disconnected()

    def _lost(self, job_id: str, scripts: Sequence[Ran]) -> None:
        """What a restart took from one job, and who may complain about it."""
        names, processes = {ran.name for ran in scripts}, {ran.process for ran in scripts}
        if "create" in names:
            self.lost_whole.add(job_id)
        for worker in self.workers:
            if worker.claim is not None and worker.claim.job_id == job_id:
                # What freed the job for this claim was another's, and that one may come back later.
                worker.is_excused |= "claim" in names and not processes <= worker.names
        ends = [ended for ended in self.ends[job_id] if ended.event not in self.log_of(job_id)]
        if ends and "create" not in names and not any(name.startswith("sweep") for name in names):
            # A worker repeats what it got no answer to, and whoever asked for a cancel may not.
            keepers = self.workers if job_id not in self.cancelled else [*self.webs, *self.workers]
            writers = [process for process in keepers if process.name == ends[-1].by]
            if writers and not writers[0].is_frozen and processes <= writers[0].names:
                self._owed[job_id] = ends[-1]


def _as_shown(event: Event) -> tuple[str, EventId, str, bytes]:
    """Without what was true at one moment only, and is told anew when a restart lost it."""
    return (
        str(event.id),
        event.prev,
        event.kind,
        re.sub(rb',"(queue_position|workers)":\d+', b"", event.data or b""),
    )
