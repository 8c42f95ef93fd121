"""The faults of the catalogue against the plain Celery way, and ours beside it.

benchmarks/plain_celery.py is the command. The two go through the same rows at the same time, each a
deployment of its own; probes, phases, faults and counts are the same code. What does not end is looked
at again at the very end of the run.
"""

import contextlib
import itertools
import json
import logging
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from helpers import wait_until

from benchmarks.peers.celery_plain import Viewer as PlainViewer
from chaos.checker import ran_beside_itself
from chaos.clients import Accepted, Clients, Viewer
from chaos.faults import FAULTS, Hit
from chaos.phases import CUTS, NotEntered, enter
from chaos.plain_system import PlainClients, PlainSystem
from chaos.system import Deployment, System
from rankcast.tasks.state import JobState

#: Longer than a lease of ours, and its grace.
FROZEN_S = 20.0
#: In which viewers cut themselves off as often as they like.
WATCHED_S = 2.0
#: A message that a frozen host can take is taken by then.
SWALLOWED_S = 1.0
#: A round waits so long for the end of its probe; then the next begins.
ENDS_WITHIN_S = 10.0
#: What has not ended so long after the last fault is counted as without an end.
PATIENCE_S = 60.0
#: No round begins later in the run.
LONGEST_S = 480.0
#: A viewer that heard nothing of the end asks within that time.
JOIN_S = 5.0
#: What becomes of a job that has not ended, by where its message is.
WHERE = {
    "not acknowledged": "its message comes again at the visibility timeout, 1 h",
    "gone": "its message is gone: never",
}
HEADINGS = ("fault", "while the job is", "plain Celery", "Rankcast")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault in a phase. `inject` may name another job than the probe that is to be judged."""

    fault: str
    phase: str
    inject: Callable[[Hit], Accepted | None]
    ends_as: str = "succeeded"
    #: Whose transcript counts: who stays, or who cuts itself off with this chance.
    cuts: float = min(CUTS)


def _from_catalogue(name: str) -> Callable[[Hit], None]:
    return next(fault.inject for fault in FAULTS if fault.name == name)


def _frozen(hit: Hit) -> None:
    hit.host.send_all(signal.SIGSTOP)
    time.sleep(FROZEN_S)
    hit.host.send_all(signal.SIGCONT)


def _message_swallowed(hit: Hit) -> Accepted:
    """One host is busy; the other, idle, freezes, has a job sent to it, and is gone."""
    idle = next(host for host in hit.system.hosts if host is not hit.host)
    idle.send_all(signal.SIGSTOP)
    job = hit.clients.submit("chaos/probe", {"hold": "nothing", "phase": "running"})
    for cuts in CUTS:
        hit.clients.watch(job, cuts=cuts)
    time.sleep(SWALLOWED_S)
    # All of it: who stands still does not notice that its parent has died.
    idle.send_all(signal.SIGKILL)
    hit.violations += idle.kill()
    return job


def _messages_tripled(hit: Hit) -> None:
    if isinstance(hit.clients, PlainClients):
        for _ in range(3):
            hit.clients.repeat(hit.probe.job)
    else:
        _from_catalogue("wake-ups tripled")(hit)
    time.sleep(SWALLOWED_S)


def _cancelled(hit: Hit) -> None:
    """And let go a while later: whoever is told may stop by itself."""
    hit.clients.cancel(hit.probe.job)
    time.sleep(1)


def _cancelled_at_the_end(hit: Hit) -> None:
    """It is let go in the moment in which the cancel was sent."""
    hit.clients.cancel(hit.probe.job)


def _watched(hit: Hit) -> None:
    time.sleep(WATCHED_S)


ROWS = (
    Row(fault="worker killed", phase="queued", inject=_from_catalogue("worker killed")),
    Row(fault="worker killed", phase="running", inject=_from_catalogue("worker killed")),
    Row(fault="rank killed (Celery: the child)", phase="running", inject=_from_catalogue("rank 0 killed")),
    Row(fault=f"worker frozen for {FROZEN_S:g} s, thawed", phase="running", inject=_frozen),
    Row(fault="idle worker frozen, job submitted, worker killed", phase="running", inject=_message_swallowed),
    Row(
        fault="worker drained, job goes on",
        phase="running",
        inject=_from_catalogue("worker drained"),
    ),
    Row(fault="Redis killed", phase="queued", inject=_from_catalogue("Redis killed")),
    Row(fault="Redis killed", phase="running", inject=_from_catalogue("Redis killed")),
    Row(fault="connections cut", phase="running", inject=_from_catalogue("connections cut")),
    Row(fault="message delivered 4 times", phase="queued", inject=_messages_tripled),
    Row(fault="message delivered 4 times", phase="running", inject=_messages_tripled),
    Row(fault="cancel", phase="queued", inject=_cancelled, ends_as="cancelled"),
    Row(fault="cancel", phase="running", inject=_cancelled, ends_as="cancelled"),
    Row(fault="cancel as it ends", phase="running", inject=_cancelled_at_the_end, ends_as="cancelled"),
    Row(fault="viewer cut off and back", phase="running", inject=_watched, cuts=max(CUTS)),
)


class Side(Protocol):
    """One of the two: a deployment, its clients, and what can be found out about a job."""

    system: Deployment
    clients: Clients | PlainClients

    def output(self, job_id: str) -> Mapping[str, Any]: ...

    def results(self, viewer: Any) -> list[Mapping[str, Any]]:
        """What a viewer was told, as far as it was not told to forget it."""

    def count_ends(self, job_id: str) -> int:
        """How often it came to an end that viewers could be told."""

    def whereabouts(self, job_id: str) -> str:
        """Where what makes it go on is, if anything does."""


class Ours:
    def __init__(self, folder: Path) -> None:
        self.system = System(folder)
        self.clients = Clients([web.url for web in self.system.webs], random.Random(1))

    def output(self, job_id: str) -> Mapping[str, Any]:
        return json.loads(self.system.store.output(job_id) or b"{}")

    def results(self, viewer: Viewer) -> list[Mapping[str, Any]]:
        resets = [n for n, frame in enumerate(viewer.frames) if frame.kind == "reset"]
        return [frame.json for frame in viewer.frames[resets[-1] if resets else 0 :] if frame.kind == ""]

    def count_ends(self, job_id: str) -> int:
        return sum(event.kind == "end" for event in self.system.log(job_id))

    def whereabouts(self, job_id: str) -> str:
        record = self.system.record(job_id)
        return "no record" if record is None or record.state.is_terminal else f"it is {record.state}"


class Plain:
    def __init__(self, folder: Path) -> None:
        self.system = PlainSystem(folder)
        self.clients = PlainClients(self.system, random.Random(1))

    def output(self, job_id: str) -> Mapping[str, Any]:
        return self.system.output(job_id)

    def results(self, viewer: PlainViewer) -> list[Mapping[str, Any]]:
        return viewer.steps

    def count_ends(self, job_id: str) -> int:
        return len(self.system.notebook.find(job_id, "returned"))

    def whereabouts(self, job_id: str) -> str:
        return self.system.whereabouts(job_id)


@dataclass
class Cell:
    """What came of one row on one side."""

    jobs: list[Accepted] = field(default_factory=list)
    #: Rounds by what was wrong in them.
    found: Counter[str] = field(default_factory=Counter)
    #: Of what the attempts that ended jobs told, what viewers were not.
    missed: int = 0
    told: int = 0

    def __str__(self) -> str:
        wrong = [f"{times}× {what}" for what, times in self.found.most_common()]
        if self.missed:
            wrong.append(f"{self.missed} of {self.told:,} steps missed untold")
        return f"{len(self.jobs)} accepted: {', '.join(wrong) or 'nothing wrong'}"


def compare(
    sides: Sequence[Side], rows: Sequence[Row], *, rounds: int, patience_s: float
) -> list[list[Cell]]:
    """All rows against all sides, the sides at the same time: a list of cells for each side."""
    with ThreadPoolExecutor(len(sides)) as pool:
        return list(pool.map(lambda side: _attack(side, rows, rounds, patience_s), sides))


def _attack(side: Side, rows: Sequence[Row], rounds: int, patience_s: float) -> list[Cell]:
    cells = [Cell() for _ in rows]
    give_up = time.monotonic() + LONGEST_S
    try:
        side.system.heal()
        for _, (row, cell) in itertools.product(range(rounds), zip(rows, cells, strict=True)):
            if time.monotonic() < give_up:
                _break(side, row, cell)
        jobs = [job for cell in cells for job in cell.jobs]
        _wait_ended(side, jobs, patience_s)
        for row, cell in zip(rows, cells, strict=True):
            for job in cell.jobs:
                _judge(side, row, cell, job)
    finally:
        for viewer in side.clients.viewers:
            viewer.leave()
        left = side.system.stop()
        side.clients.close()
    assert left == [], f"left after the end: {left}"
    return cells


def _break(side: Side, row: Row, cell: Cell) -> None:
    """One round of a row."""
    system, clients = side.system, side.clients
    try:
        probe = enter(row.phase, system, clients)
    except (NotEntered, AssertionError) as error:
        log.warning("%s while %s: %s", row.fault, row.phase, error)
        system.heal()
        return
    hit = Hit(system=system, clients=clients, probe=probe, rng=random.Random(1))
    job = row.inject(hit) or probe.job
    probe.release()
    system.heal()
    cell.jobs.append(job)
    for violation in hit.violations:
        log.warning("%s while %s: %s", row.fault, row.phase, violation)
    if hit.violations:
        cell.found["processes were left"] += 1
    _wait_ended(side, [job], ENDS_WITHIN_S)


def _wait_ended(side: Side, jobs: Sequence[Accepted], timeout_s: float) -> None:
    """What has not ended by then is for the judge."""
    with contextlib.suppress(AssertionError):
        wait_until(
            lambda: all((state := _state(side, job)) and state.is_terminal for job in jobs),
            "the end of jobs",
            timeout_s=timeout_s,
        )


def _state(side: Side, job: Accepted) -> JobState | None:
    """None for a job that is not there."""
    record = side.system.record(job.job_id)
    return record and record.state


def _judge(side: Side, row: Row, cell: Cell, job: Accepted) -> None:
    cell.found.update(_findings(side, row, job))
    call = side.output(job.job_id).get("call")
    told = {note.n for note in side.system.notebook.find(job.job_id, "told") if note.call == call}
    for viewer in side.clients.viewers:
        if call and viewer.job_id == job.job_id and viewer.cuts == row.cuts:
            viewer.join(JOIN_S)
            seen = {result["n"] for result in side.results(viewer) if result["call"] == call}
            cell.told += len(told)
            cell.missed += len(told - seen)


def _findings(side: Side, row: Row, job: Accepted) -> Iterator[str]:
    """What is wrong with how a job went."""
    state, where = _state(side, job), side.whereabouts(job.job_id)
    if state is None or not state.is_terminal:
        yield f"no end ({WHERE.get(where, where)})"
    elif state != row.ends_as:
        yield f"ended {state.value}"
    elif where == "not acknowledged":
        yield "ended, and its message stays to run it again after 1 h"
    if side.count_ends(job.job_id) > 1:
        yield "ended more than once"
    if ran_beside_itself(side.system.notebook.read().of.get(job.job_id, [])):
        yield "ran more than once at the same time"


def table(rows: Sequence[Row], plain: Sequence[Cell], ours: Sequence[Cell]) -> Iterator[Sequence[str]]:
    for row, *cells in zip(rows, plain, ours, strict=True):
        yield [row.fault, row.phase, *map(str, cells)]
