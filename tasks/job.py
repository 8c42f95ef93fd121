"""What a job is: its id, its options, its record, and the claim that lets one attempt work on it.

Pure data; store.py moves it in and out of Redis. Times are milliseconds of Redis' own clock.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from rankcast.tasks.event import START, EventId
from rankcast.tasks.state import JobState

#: Priorities go from 0, first, to 9, last, as Celery has them over Redis.
DEFAULT_PRIORITY = 5
LOWEST_PRIORITY = 9
DAY_S = 24 * 3600.0
#: Bounds times, so that sums in milliseconds stay exact in Redis' scripts.
MAX_SECONDS = 10 * 366 * DAY_S


def new_job_id() -> str:
    """128 random bits as 32 hex digits: safe in a URL, a file name and on a command line.

    Nothing may parse it.
    """
    return secrets.token_hex(16)


def new_token() -> str:
    """The random half of a claim: a claim that Redis forgot can never be mistaken for a later one."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What a submitter may ask of one job; None leaves it to the task."""

    priority: int = DEFAULT_PRIORITY
    #: Seconds from submit to the first start, after which the job fails with `start_timeout`.
    start_timeout_s: float = DAY_S
    #: Seconds one attempt may run.
    timeout_s: float | None = None
    #: Seconds from submit to end, waits and all attempts included; then it fails with `total_timeout`.
    total_timeout_s: float | None = None
    #: Seconds that an ended job, its log and its output are kept.
    ttl_s: float = DAY_S


def option_faults(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What `JobOptions(**options)` should not be made of, as (name, what is wrong with it).

    One rule, whichever way a job is submitted: over HTTP, or with `delay` beside Redis.
    """
    defaults = asdict(JobOptions())
    for name in options.keys() - defaults.keys():
        yield name, f"is unknown; options are {', '.join(sorted(defaults))}"
    priority = options.get("priority", DEFAULT_PRIORITY)
    if type(priority) is not int or not 0 <= priority <= LOWEST_PRIORITY:
        yield "priority", f"must be a whole number from 0, first, to {LOWEST_PRIORITY}"
    for name in ("start_timeout_s", "timeout_s", "total_timeout_s", "ttl_s"):
        value = options.get(name, defaults[name])
        if value is None and defaults[name] is None:
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value <= MAX_SECONDS:
            yield name, "must be a number of seconds above 0, at most 10 years"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """What became of one attempt. `error` has no traceback, and is None where there was none: it
    succeeded, drained, or is under way (`ended_ms` is None then, too)."""

    attempt: int
    worker: str
    started_ms: int
    ended_ms: int | None = None
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job as Redis has it. `output` is not here: it may be large, and has its own call."""

    job_id: str
    task: str
    state: JobState
    input: Any
    options: JobOptions
    created_ms: int
    #: How long its POST had been with the web tier by then; None where there was none.
    accept_ms: float | None = None
    #: Id of the API key that submitted it; '' where nobody had to show one.
    owner: str = ""
    #: First claim, first time the group was ready, end; None until then.
    claimed_ms: int | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    #: Tries so far, from 1; 0 before the first claim.
    attempt: int = 0
    #: Attempts that ended because their worker or group was lost; this is what is capped.
    losses: int = 0
    #: The newest attempts, oldest first, the one under way included.
    attempts: Sequence[AttemptRecord] = ()
    fence: int = 0
    worker: str | None = None
    is_cancel_requested: bool = False
    #: Id of the newest event, and of the `end` event once there is one.
    last: EventId = START
    end_id: EventId | None = None
    #: Newest event that the bounds of the log trimmed away.
    trimmed: EventId | None = None
    #: 0 is the next to be claimed; None unless queued.
    queue_position: int | None = None
    progress: Any = None
    #: As the newest `checkpoint` event told it.
    checkpoint: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to work on a job: every write shows its fence and its token."""

    job_id: str
    task: str
    fence: int
    token: str
    attempt: int
    worker: str
    #: The input as JSON text, exactly as it was accepted.
    input: bytes
    options: JobOptions
    #: From the submit to this claim.
    waited_ms: int = 0
    #: Attempts before this one that failed in user code and were retried.
    retried: int = 0
    #: What the job announced last: `path`, below the deployment's folder, `attempt`, and what the task
    #: said of it.
    checkpoint: dict[str, Any] | None = None
    #: Name of the deployment, which its files are filed under.
    deployment: str = ""
    #: As in the record.
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobErrorInfo:
    """Why a job did not succeed, as record, stream and HTTP tell it.

    `kind` is one of `exception` (user code raised), `exited` (a rank called exit), `group_lost` (a
    signal ended a rank), `oom_killed` (the kernel did, for memory), `rank_frozen` (one was not heard
    any more), `stalled` (no sign of progress), `storage_full` (a disk was), `setup_failed`,
    `setup_timeout`, `run_timeout`, `start_timeout`, `total_timeout`, `worker_lost`, `not_encodable`,
    `invalid_input`, `cancelled`.
    """

    kind: str
    message: str
    rank: int | None = None
    type: str | None = None
    traceback: str | None = None
    exitcode: int | None = None
    signal: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON form; fields that are not known are left out."""
        pairs = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in pairs.items() if value is not None}

    def gist(self) -> dict[str, Any]:
        """The same without the traceback: short enough to be kept for every attempt."""
        return {name: value for name, value in self.as_dict().items() if name != "traceback"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended: one of the terminal states, and what belongs to it."""

    state: JobState
    #: The result as JSON text; only of a job that succeeded.
    output: bytes | None = None
    error: JobErrorInfo | None = None
    metrics: dict[str, Any] = field(default_factory=dict)


class Renewal(StrEnum):
    """What a worker learns of one claim when it renews its lease."""

    OWNED = "OWNED"
    #: Still its own, and the job was asked to end.
    CANCEL_REQUESTED = "CANCEL"
    #: A newer attempt owns the job, or it has ended: stop, and write nothing more.
    LOST = "LOST"
