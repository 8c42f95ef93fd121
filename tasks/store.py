"""Step 2. Jobs in Redis: what is kept, and the moves that change it, one Lua script each.

The record of a job is a hash, `rankcast:job:<id>`. Times are milliseconds of Redis' own clock.

    task                  name of its task
    state                 queued, starting, running, succeeded, failed, cancelled (state.py)
    owner                 id of the API key that submitted it, if one did
    input, options        JSON, as accepted at submit
    score                 its place in the task's queue: priority * 1e13 + order; kept over attempts
    created, claimed, started, ended
                          ms; first claim, first time a group was ready
    accept                ms that a POST had been with the web tier when the job was created, if one did
    deadline, ttl         ms: latest first start, and how long all keys live after the end
    due                   ms: latest end, if the job or its task says one
    expires               ms: when they go; set at the end
    fence, token          of the newest claim: what a write must show
    attempt, losses       tries so far, and those lost with their worker or group
    retried               retries that failures of user code have used up
    current               the attempt under way, the beginning of a JSON object
    attempts              those that are over, the newest 20, one JSON object a line
    worker                id of the worker that has or had the newest claim
    cancel                1 once a cancel was asked for; decides at the end
    last, end_id          newest event, and the `end` event
    first                 data of event 0-1, which is never trimmed
    trimmed               newest event that was trimmed away
    bytes                 of the event log; open_bytes, open_events: since its newest mark
    progress              newest progress that an event carried, JSON
    checkpoint            data of the newest `checkpoint` event: what the next attempt may begin from
    remade                1 of a job that a restart lost whole and the redo buffer made again, until a claim
    once                  name of the key that stands for its idempotency key, if it came with one
    output, error, metrics
                          of the end, JSON; error and output only where there is one

Beside it (keys.py): the event log and its marks, the printed lines, and the indexes. A script
changes a job's keys and the indexes in one step, so that after any loss Redis holds a state that
once was. Every script is safe to repeat: it finds what it did by its own arguments.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, NoReturn, cast

import orjson
import redis

from rankcast.tasks import keys
from rankcast.tasks.connect import Scripts, at_the_edge
from rankcast.tasks.errors import Behind, IdempotencyKeyReused, QueueFull, StaleAttempt, UnknownJob
from rankcast.tasks.idempotency import IdempotencyKey, body_digest
from rankcast.tasks.job import (
    Claim,
    JobErrorInfo,
    JobOptions,
    JobRecord,
    Outcome,
    Renewal,
    new_job_id,
    new_token,
)
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.records import Page, read_page, read_records
from rankcast.tasks.settings import Settings, host_name
from rankcast.tasks.state import JobState

#: How long Redis remembers which job a claim's token got, for a worker that lost the reply.
CLAIM_TOKEN_TTL_MS = 60_000


class Created(NamedTuple):
    """A job that stands in Redis. `queue_position` counts from 0; None once it is not queued."""

    job_id: str
    state: JobState
    queue_position: int | None
    #: Live workers that serve the task.
    workers: int
    created_ms: int
    attempt: int = 0
    #: An earlier submit under the same idempotency key made it.
    is_replayed: bool = False


class CancelReply(NamedTuple):
    """`state` after the call; `is_ended`: it had ended before, nothing was changed."""

    state: JobState
    is_ended: bool


class JobStore:
    """All moves of jobs. Safe to share between threads.

    Every method raises StoreUnavailable when Redis does not answer; whether it did the work is not
    known then, and asking again is safe. Those that tell of one job raise it as well where that is
    missing from a Redis that was restarted a moment ago: UnknownJob is for good.
    """

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._settings = settings
        self._scripts = Scripts(client)
        self._lease_ms = round(settings.lease_s * 1000)
        self._host = host_name()

    def create(
        self,
        *,
        task: str,
        input: bytes,
        options: JobOptions,
        job_id: str | None = None,
        key: IdempotencyKey | None = None,
        total_timeout_s: float | None = None,
        owner: str = "",
        accept_ms: float | None = None,
    ) -> Created:
        """Queue a job; `input` is JSON text. QueueFull at the task's limit. `total_timeout_s` is the
        task's, for a job whose options have none; `owner` the id of the API key that asks; `accept_ms`
        the time since its POST came.

        With the `job_id` of a job that exists, or a `key` that came with the same before: how that
        job stands, and nothing is written. IdempotencyKeyReused for a `key` that came with another
        task, input or options.
        """
        job_id = job_id or new_job_id()
        total_s = total_timeout_s if options.total_timeout_s is None else options.total_timeout_s
        once = () if key is None else (keys.IDEMPOTENCY(key.digest), body_digest(task, input, options))
        reply = self._scripts.run(
            "create",
            job_id,
            task,
            input,
            orjson.dumps(asdict(options)),
            options.priority,
            round(options.start_timeout_s * 1000),
            round(options.ttl_s * 1000),
            self._settings.max_queued,
            round(self._settings.worker_ttl_s * 1000),
            "" if total_s is None else round(total_s * 1000),
            owner,
            "" if accept_ms is None else round(accept_ms, 3),
            *once,
        )
        if reply[0] == b"FULL":
            raise QueueFull(
                f"{reply[1]} jobs of task {task!r} are queued, which is the limit; try again later"
            )
        if reply[0] == b"REUSED":
            raise IdempotencyKeyReused(reply[1].decode())
        _, found_id, state, position, workers, created_ms, attempt, *_ = reply
        return Created(
            job_id=found_id.decode(),
            state=JobState(state.decode()),
            queue_position=None if position < 0 else position,
            workers=workers,
            created_ms=int(created_ms),
            attempt=int(attempt),
            is_replayed=found_id.decode() != job_id,
        )

    def knows(self, key: IdempotencyKey) -> bool:
        """Whether a job stands under `key`."""
        with at_the_edge():
            return bool(self._redis.exists(keys.IDEMPOTENCY(key.digest)))

    def claim(self, *, task: str, token: str, worker: str, job_id: str | None, is_warm: bool) -> Claim | None:
        """Begin an attempt: on `job_id` if it is queued and no job of higher priority is, else on the
        head of the task's queue.

        None when nothing is queued. The same `token` again gets the same claim, so a lost reply
        costs nothing. Writes the attempt's first event, `<fence>-1`.
        """
        detail = {"worker": worker, "host": self._host} | ({} if is_warm else {"loading": True})
        reply = self._scripts.run(
            "claim",
            task,
            token,
            job_id or "",
            worker,
            self._lease_ms,
            b"," + orjson.dumps(detail)[1:-1],
            CLAIM_TOKEN_TTL_MS,
            new_token(),
        )
        if reply[0] == b"NONE":
            return None
        _, claimed_id, fence, attempt, options, job_input, retried, checkpoint, deployment, _, owner = reply
        return Claim(
            job_id=claimed_id.decode(),
            task=task,
            fence=int(fence),
            token=token,
            attempt=int(attempt),
            worker=worker,
            input=job_input,
            options=JobOptions(**orjson.loads(options)),
            # A fence is the time from submit to claim, unless an older fence was as large.
            waited_ms=int(fence),
            retried=int(retried),
            checkpoint=orjson.loads(checkpoint) if checkpoint else None,
            deployment=deployment.decode(),
            owner=owner.decode(),
        )

    def start(self, claim: Claim) -> bool:
        """The group is ready: starting becomes running. Returns whether a cancel was asked for.

        Writes no event: from here until the end rank 0 numbers them. StaleAttempt, UnknownJob.
        """
        reply = self._scripts.run("start", *_shown(claim))
        if reply[0] != b"OK":
            refuse(reply, claim.job_id)
        return bool(reply[1])

    def renew(self, claims: Sequence[Claim]) -> dict[str, Renewal]:
        """Keep the leases of `claims`: job id → how it stands. One call for all of them.

        A lease that ran out is renewed all the same while nobody took the job.
        """
        if not claims:
            return {}
        shown = [part for claim in claims for part in _shown(claim)]
        replies = self._scripts.run("renew", self._lease_ms, *shown)
        return {claim.job_id: Renewal(reply.decode()) for claim, reply in zip(claims, replies, strict=True)}

    def finish(self, claim: Claim, outcome: Outcome, final_seq: int, *, is_cut: bool = False) -> JobState:
        """End the job, and return what was decided: `cancelled` if a cancel was asked for.

        `final_seq` is the last event that rank 0 numbered (0: none); Behind while the log lacks it.
        `is_cut`: it numbered more, and nobody can send them again.
        Asked again with the same claim it returns what was decided. StaleAttempt, UnknownJob.
        ValueError for a success of a group that never started.
        """
        if not outcome.state.is_terminal:
            raise ValueError(f"a job cannot end as {outcome.state}")
        reply = self._scripts.run(
            "finish",
            *_shown(claim),
            final_seq,
            outcome.state,
            outcome.output or b"",
            b"" if outcome.error is None else orjson.dumps(outcome.error.as_dict()),
            orjson.dumps(outcome.metrics),
            b"" if outcome.error is None else orjson.dumps(outcome.error.gist()),
            int(is_cut),
        )
        if reply[0] == b"EARLY":
            raise ValueError(f"job {claim.job_id} cannot succeed: its attempt {claim.attempt} never started")
        if reply[0] != b"OK":
            refuse(reply, claim.job_id)
        return JobState(reply[1].decode())

    def release(
        self,
        claim: Claim,
        *,
        is_loss: bool,
        reason: str,
        is_retry: bool = False,
        error: JobErrorInfo | None = None,
    ) -> JobState:
        """Give the job back: `queued` in its old order, or how it ended instead.

        It ends `cancelled` if that was asked for, and at the limit of losses `failed`, with what
        `error` says beside its message (default: `worker_lost`). A retry is counted apart, a drain
        not at all. Asked again it returns the same, also when another has claimed the job since.
        StaleAttempt, UnknownJob.
        """
        blame = {} if error is None else {n: v for n, v in error.gist().items() if n != "message"}
        reply = self._scripts.run(
            "release",
            *_shown(claim),
            int(is_loss),
            int(is_retry),
            orjson.dumps(reason)[1:-1],
            self._settings.max_losses,
            orjson.dumps(blame) if blame else b"",
        )
        if reply[0] != b"OK":
            refuse(reply, claim.job_id)
        return JobState(reply[1].decode())

    def cancel(self, job_id: str) -> CancelReply:
        """Ask a job to end. UnknownJob.

        What nobody works on (queued, or its lease ran out) ends at once; else its worker is told.
        """
        reply = self._scripts.run("cancel", job_id)
        if reply[0] != b"OK":
            refuse(reply, job_id)
        return CancelReply(JobState(reply[1].decode()), bool(reply[2]))

    def record(self, job_id: str) -> JobRecord:
        """The job as Redis has it now. UnknownJob."""
        with at_the_edge():
            found = read_records(self._redis, [job_id])[0]
        if found is None:
            not_found(self._scripts, job_id)
        return found

    def owner(self, job_id: str) -> str:
        """Id of the API key that submitted the job, '' for none. UnknownJob."""
        found = self.owners([job_id])
        if job_id not in found:
            not_found(self._scripts, job_id)
        return found[job_id]

    def owners(self, job_ids: Sequence[str]) -> dict[str, str]:
        """The same of several jobs in one round trip; one that is unknown is left out."""
        with at_the_edge():
            pipe = self._redis.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hmget(JobKeys(job_id).record, ["state", "owner"])
            rows = zip(job_ids, pipe.execute(), strict=True)
            return {job_id: (owner or b"").decode() for job_id, (state, owner) in rows if state is not None}

    def output(self, job_id: str) -> bytes | None:
        """The output as JSON text; None unless the job succeeded with one. UnknownJob."""
        with at_the_edge():
            state, output = cast(
                list[bytes | None], self._redis.hmget(JobKeys(job_id).record, ["state", "output"])
            )
        if state is None:
            not_found(self._scripts, job_id)
        return output

    def list(
        self,
        task: str | None = None,
        state: JobState | None = None,
        limit: int = 50,
        cursor: str | None = None,
        owner: str = "",
    ) -> Page:
        """Jobs, newest first, of one task, in one state and of one owner if asked; `cursor` is from the
        page before.

        A page may be shorter than `limit` although more follow: its cursor says so. ValueError for a
        cursor that no page gave.
        """
        with at_the_edge():
            return read_page(self._redis, task=task, state=state, owner=owner, limit=limit, cursor=cursor)

    def deployment(self) -> str | None:
        """The name that claims bring; None before the first of all."""
        with at_the_edge():
            found = cast("bytes | None", self._redis.get(keys.DEPLOYMENT))
        return None if found is None else found.decode()

    def kept(self, job_ids: Sequence[str]) -> set[str]:
        """Those of the jobs that have a record still, in one round trip."""
        with at_the_edge():
            pipe = self._redis.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.exists(JobKeys(job_id).record)
            return {job_id for job_id, found in zip(job_ids, pipe.execute(), strict=True) if found}

    def queued_count(self, task: str) -> int:
        """How many jobs of the task are queued."""
        with at_the_edge():
            return self._redis.zcard(keys.QUEUED(task))

    def heads_of(self, task: str, limit: int) -> Sequence[str]:
        """The jobs that the next `limit` claims without a name get, in that order."""
        with at_the_edge():
            heads = cast("list[bytes]", self._redis.zrange(keys.QUEUED(task), 0, limit - 1))
        return [head.decode() for head in heads]

    def head_of(self, task: str) -> str | None:
        """The job that the next claim without a name gets."""
        return next(iter(self.heads_of(task, 1)), None)


def confirm_gone(scripts: Scripts, job_ids: Sequence[str]) -> None:
    """Of jobs that were not found: StoreUnavailable while a restarted Redis may be told of them yet."""
    scripts.run("gone", *job_ids)


def not_found(scripts: Scripts, job_id: str) -> NoReturn:
    """Raise UnknownJob for a job that was not found, once that is sure."""
    confirm_gone(scripts, [job_id])
    raise UnknownJob(job_id)


def refuse(reply: Sequence[Any], job_id: str) -> NoReturn:
    """Raise what a script's refusal stands for: GONE, FENCED, or BEHIND with the last seq."""
    match reply[0]:
        case b"GONE":
            raise UnknownJob(job_id)
        case b"FENCED":
            raise StaleAttempt(f"this attempt at job {job_id} is over: another owns it, or it has ended")
        case b"BEHIND":
            raise Behind(int(reply[1]))
    raise AssertionError(f"a script answered {reply!r}")


def _shown(claim: Claim) -> tuple[str, int, str]:
    return claim.job_id, claim.fence, claim.token
