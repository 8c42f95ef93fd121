"""What must be true of a deployment after any faults, held against four witnesses.  Pure.

The witnesses: what each task wrote down itself (notes.py), each job's event log and record in Redis,
what each viewer was told, and which processes are left. They say nothing of each other, so that no
part of Rankcast vouches for itself.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.notes import Note, result

#: A job whose worker or group was lost so often may fail for it.
MAX_LOSSES = 3
LOST = frozenset({"worker_lost", "group_lost", "rank_frozen"})
#: How tasks end that nobody cancels and nothing happens to; all others succeed.
FAILING = {"chaos/fails": "exception"}


@dataclass(frozen=True, kw_only=True)
class Told:
    """One event, as a log has it or a viewer was told it."""

    id: str
    kind: str
    data: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def place(self) -> tuple[int, ...]:
        """Fence and seq."""
        return tuple(int(part) for part in self.id.split("-"))


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What one viewer was told, in order. `is_complete`: it saw the end."""

    frames: Sequence[Told]
    is_complete: bool


@dataclass(frozen=True, kw_only=True)
class Job:
    """All there is to know of one accepted job. No `state`: there is no record of it."""

    job_id: str
    task: str
    #: Somebody asked to cancel it; and was answered that it had not ended before.
    is_cancel_asked: bool = False
    is_cancelled: bool = False
    state: str | None = None
    losses: int = 0
    output: Any = None
    error: Mapping[str, Any] | None = None
    log: Sequence[Told] = ()
    notes: Sequence[Note] = ()
    viewers: Sequence[Watched] = field(default=())


def violations(jobs: Iterable[Job]) -> list[str]:
    """Everything that no fault excuses, a line each."""
    return [f"job {job.job_id} ({job.task}): {fault}" for job in jobs for fault in _faults(job)]


def story(job: Job) -> str:
    """What there is to know of a job that is not as it must be, in the order of each witness."""
    notes = [
        f"  {note.at_ns / 1e9:.3f} pid {note.pid} rank {note.rank} attempt {note.attempt} "
        f"call {note.call[:8]}: {note.what} {note.n} {note.detail}"
        for note in sorted(job.notes, key=lambda note: note.at_ns)
    ]
    log = [f"  {event.id} {event.kind or 'result'} {event.data[:160]}" for event in job.log]
    head = f"job {job.job_id} ({job.task}) is {job.state} after {job.losses} losses: {job.error}"
    return "\n".join([head, "its log:", *log, "what its ranks noted:", *notes])


def _faults(job: Job) -> Iterator[str]:
    if job.state is None:
        yield "was accepted, and is not there"
        return
    yield from _ending(job)
    yield from _order(job.log)
    yield from _results(job)
    yield from _checkpoints(job)
    for viewer in job.viewers:
        yield from _transcript(job, viewer)


def _ending(job: Job) -> Iterator[str]:
    """Exactly one end, the last event; of the state and for the reason that it may have."""
    ends = [event for event in job.log if event.kind == "end"]
    if job.state not in ("succeeded", "failed", "cancelled"):
        yield f"never ended, it is {job.state}"
        return
    if ends != list(job.log[-1:]):
        yield f"has {len(ends)} ends, and {job.log[-1].kind or 'a result'} is its last event"
        return
    if ends[0].json["state"] != job.state:
        yield f"is {job.state}, and its stream says {ends[0].json['state']}"
    if job.is_cancelled and job.state != "cancelled":
        yield f"is {job.state}, and a cancel was acknowledged"
    if job.state == "cancelled" and not job.is_cancel_asked:
        yield "is cancelled, and nobody asked for it"
    if job.state == "failed":
        kind = (job.error or {}).get("kind")
        is_lost = kind in LOST and job.losses >= MAX_LOSSES
        if kind != FAILING.get(job.task) and not is_lost:
            yield f"failed with {kind} after {job.losses} losses"
    if job.state == "succeeded" and job.task in FAILING:
        yield "succeeded, and must fail"


def _order(log: Sequence[Told]) -> Iterator[str]:
    """Fences grow, numbers are dense within each, from 1."""
    for before, event in itertools.pairwise(log):
        (fence, seq), (next_fence, next_seq) = before.place, event.place
        is_next = next_seq == seq + 1 if next_fence == fence else next_fence > fence and next_seq == 1
        if not is_next:
            yield f"its log goes from {before.id} to {event.id}"
    if log and log[0].id != "0-1":
        yield f"its log begins with {log[0].id}"


def _results(job: Job) -> Iterator[str]:
    """What the log has of each call is what that call told: from the first, in order, unchanged; all
    of it, if the job ended with that call."""
    calls = {
        note.call: [other for other in job.notes if other.call == note.call]
        for note in job.notes
        if note.call
    }
    logged: dict[str, list[Any]] = {}
    for event in job.log:
        if event.kind == "":
            logged.setdefault(event.json.get("call", ""), []).append(event.json)
    for call, results in logged.items():
        if call not in calls:
            yield f"its log has results of {call or 'no call'}, which nobody told"
            continue
        told = [note.n for note in calls[call] if note.what == "telling"]
        if results != [result(job.job_id, call, n) for n in told[: len(results)]]:
            yield f"its log has {len(results)} results of call {call}, which are not the first that it told"
    yield from _whole(job, calls, logged)


def _whole(
    job: Job, calls: Mapping[str, Sequence[Note]], logged: Mapping[str, Sequence[Any]]
) -> Iterator[str]:
    """Of the call that ended the job nothing that was accepted is missing, and its output is its own."""
    call = (job.output or {}).get("call", "") if job.state == "succeeded" else ""
    if job.state == "failed" and (job.error or {}).get("kind") == "exception":
        # Its error names it: another call, of a worker that was frozen, may raise as well, and later.
        call = next((name for name in calls if name in job.error["message"]), "")
        if not call:
            yield f"its error {job.error!r} is of no call"
    if job.state == "succeeded" and call not in calls:
        yield f"its output {job.output!r} is of no call"
        return
    accepted = sum(note.what == "told" for note in calls.get(call, ()))
    if call and accepted > len(logged.get(call, ())):
        yield f"{accepted} results of its last call were accepted, its log has {len(logged.get(call, ()))}"
    if job.state == "succeeded":
        returned = [note.n for note in calls[call] if note.what == "returned" and note.rank == 0]
        if job.output != {"job": job.job_id, "call": call, "told": returned[0] if returned else None}:
            yield f"its output {job.output!r} is not what its call returned, {returned}"


def _checkpoints(job: Job) -> Iterator[str]:
    """Each attempt went on from what was announced last before it, or from the start."""
    resumed = {note.attempt: note.n for note in job.notes if note.what == "resumed" and note.rank == 0}
    announced = 0
    for event in job.log:
        if event.kind == "checkpoint":
            announced = event.json["step"]
        elif event.kind == "state" and event.json["state"] == "running":
            begun_at = resumed.get(event.json["attempt"])
            if begun_at not in (None, announced):
                yield f"attempt {event.json['attempt']} began at {begun_at}, and {announced} was announced"


def _transcript(job: Job, viewer: Watched) -> Iterator[str]:
    """A viewer was told the log, or that it was not: behind the last `reset` everything came again."""
    frames, was_reset = list(viewer.frames), False
    for index in reversed(range(len(frames))):
        if frames[index].kind == "reset":
            frames, was_reset = frames[index + 1 :], True
            break
    if not viewer.is_complete:
        yield f"a viewer was told {len(viewer.frames)} events and never the end"
        return
    if frames != list(job.log):
        first = next(
            (n for n, (a, b) in enumerate(zip(frames, job.log, strict=False)) if a != b), len(frames)
        )
        where = frames[first].id if first < len(frames) else "its end"
        yield (
            f"a viewer was told {len(frames)} events where the log has {len(job.log)}, "
            f"{'after a reset, ' if was_reset else ''}and differs at {where}"
        )


def ran_beside_itself(notes: Sequence[Note]) -> bool:
    """Whether two of a job's attempts were at work at the same time, by what their first ranks noted."""
    spans: dict[str, list[int]] = {}
    for note in notes:
        if note.call and note.rank == 0:
            spans.setdefault(note.call, []).append(note.at_ns)
    ordered = sorted((min(span), max(span)) for span in spans.values())
    return any(begun < ended for (_, ended), (begun, _) in itertools.pairwise(ordered))
