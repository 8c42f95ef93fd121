"""How a probe is brought into one phase of a job's life, and kept there until a fault has hit it.

    queued ─▶ starting ─▶ setup ─▶ running | collective | publishing ─▶ flush ─▶ finish

Nothing in Rankcast knows of it. Users' code waits for a file to go; what is ours is held by what it
waits for: a forkserver that stands still makes a start last, a Redis that takes no writes a flush,
a worker that stands still a finish.
"""

import contextlib
import itertools
import signal
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil
from helpers import wait_until

from chaos.clients import Accepted, Clients
from chaos.notes import Note
from chaos.parts import Host
from chaos.system import Deployment, System
from rankcast.tasks.job import JobRecord
from rankcast.tasks.state import JobState

PHASES = ("queued", "starting", "setup", "running", "collective", "publishing", "flush", "finish")
#: One who cuts itself off now and then, and one who stays.
CUTS = (0.1, 0.0)
#: Probes come before the rest of the load.
FIRST = 0
ENTER_TIMEOUT_S = 30.0
CLAIM_TIMEOUT_S = 5.0
#: Longest that Redis takes no writes, whatever happens to the driver.
PAUSE_MS = 8000

_cold = itertools.cycle(["ColdA", "ColdB"])
_TASKS = {"ColdA": "chaos/cold-a", "ColdB": "chaos/cold-b"}


class NotEntered(Exception):
    """Raised when a probe did not come into its phase: its group was warm already, say."""


@dataclass(kw_only=True)
class Probe:
    """A job that is in `phase` now, and stays there until `release`. `host` and `ranks` once it has any."""

    job: Accepted
    phase: str
    host: Host | None = None
    #: Pid of each rank.
    ranks: Mapping[int, int] = field(default_factory=dict)
    release: Callable[[], None]


def enter(phase: str, system: System, clients: Clients) -> Probe:
    """Submit a probe, and return once it is in `phase`. NotEntered."""
    match phase:
        case "queued":
            return _queued(system, clients)
        case "starting":
            return _starting(system, clients)
        case "setup":
            return _setup(system, clients)
    probe = _called(phase, system, clients)
    match phase:
        case "flush":
            _begin_flush(system, probe)
        case "finish":
            _begin_finish(system, probe)
    return probe


def _submit(clients: Clients, task: str, phase: str, hold: str) -> Accepted:
    input: dict[str, Any] = {"hold": hold, "phase": phase}
    job = clients.submit(task, input, priority=FIRST)
    for cuts in CUTS:
        clients.watch(job, cuts=cuts)
    return job


def _queued(system: System, clients: Clients) -> Probe:
    """Behind two others that hold both hosts."""
    holders = [_called("running", system, clients) for _ in system.hosts]
    name = uuid.uuid4().hex
    job = _submit(clients, "chaos/probe", "running", name)
    _expect(system, job, JobState.QUEUED)

    def release() -> None:
        for holder in holders:
            holder.release()

    return Probe(job=job, phase="queued", host=holders[0].host, release=release)


def _starting(system: System, clients: Clients) -> Probe:
    """Claimed, and its group waits for a forkserver that stands still. Alone: any other job may need
    another group on its slot, too, and would wait in its place."""
    clients.pause_load()
    forkservers = [host.forkserver() for host in system.hosts]

    def release() -> None:
        for forkserver in forkservers:
            with contextlib.suppress(psutil.NoSuchProcess):
                forkserver.resume()
        clients.resume_load()

    for forkserver in forkservers:
        forkserver.suspend()
    task = _TASKS[next(_cold)]
    job = _submit(clients, task, "running", uuid.uuid4().hex)
    try:
        record = _past_the_queue(system, job)
    except NotEntered:
        release()
        raise
    return Probe(job=job, phase="starting", host=system.host_of(record), release=release)


def _setup(system: System, clients: Clients) -> Probe:
    """All ranks are in `setup`."""
    kind = next(_cold)
    name = f"setup-{kind}"
    before = len(_setups(system, kind))
    system.hold(name)
    job = _submit(clients, _TASKS[kind], "running", uuid.uuid4().hex)
    record = _past_the_queue(system, job)
    wait_until(
        lambda: len(_setups(system, kind)) == before + system.world_size,
        "all ranks in setup",
        timeout_s=ENTER_TIMEOUT_S,
    )
    ranks = {note.rank: note.pid for note in _setups(system, kind)[before:]}
    return Probe(
        job=job,
        phase="setup",
        host=system.host_of(record),
        ranks=ranks,
        release=lambda: system.release(name),
    )


def _called(phase: str, system: System, clients: Clients) -> Probe:
    """All ranks are in their call, and have said that they come to `phase`."""
    name = uuid.uuid4().hex
    system.hold(name)
    job = _submit(clients, "chaos/probe", phase, name)
    there: list[Note] = wait_until(
        lambda: _all_ranks(system, system.notebook.find(job.job_id, "phase", phase)),
        f"all ranks of a probe in {phase}",
        timeout_s=ENTER_TIMEOUT_S,
    )
    record = system.record(job.job_id)
    assert record is not None
    return Probe(
        job=job,
        phase=phase,
        host=system.host_of(record),
        ranks={note.rank: note.pid for note in there},
        release=lambda: system.release(name),
    )


def _begin_flush(system: System, probe: Probe) -> None:
    """It has returned, and Redis takes none of what it told last."""
    system.redis.client.execute_command("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
    probe.release()
    _wait_returned(system, probe)
    probe.release = system.resume_writes


def _begin_finish(system: System, probe: Probe) -> None:
    """Its ranks have said that they are done, all it told is in the log, and nobody ends the job."""
    assert probe.host is not None
    host, let_go = probe.host, probe.release
    host.freeze()
    let_go()
    _wait_returned(system, probe)
    told = [note.n for note in system.notebook.find(probe.job.job_id, "told")]

    def is_flushed() -> bool:
        newest = next((event for event in reversed(system.log(probe.job.job_id)) if event.kind == ""), None)
        return newest is not None and newest.json["n"] == max(told)

    wait_until(is_flushed, "all results in the log", timeout_s=ENTER_TIMEOUT_S)
    probe.release = lambda: host.send(signal.SIGCONT)


def _wait_returned(system: System, probe: Probe) -> None:
    wait_until(
        lambda: _all_ranks(system, system.notebook.find(probe.job.job_id, "returned")),
        "all ranks back from their call",
        timeout_s=ENTER_TIMEOUT_S,
    )


def _setups(system: System, kind: str) -> list[Note]:
    return [note for note in system.notebook.find("", "setup") if note.task == kind]


def _all_ranks(system: Deployment, notes: list[Note]) -> list[Note]:
    """The notes of the newest attempt, once all of its ranks have written theirs."""
    newest = [note for note in notes if note.call == notes[-1].call]
    return newest if len(newest) == system.world_size else []


def _expect(system: System, job: Accepted, state: JobState) -> None:
    record = system.record(job.job_id)
    if record is None or record.state is not state:
        raise NotEntered(f"it is {record and record.state}")


def _past_the_queue(system: System, job: Accepted) -> JobRecord:
    """Its record once it is `starting`."""

    def found() -> JobRecord | None:
        record = system.record(job.job_id)
        return record if record is not None and record.state is not JobState.QUEUED else None

    try:
        record = wait_until(found, "a claim of the probe", timeout_s=CLAIM_TIMEOUT_S)
    except AssertionError as error:
        raise NotEntered(str(error)) from None
    assert record is not None
    if record.state is not JobState.STARTING:
        raise NotEntered("its group was warm")
    return record
