"""A job's record as everybody outside is told it: the members of `GET /jobs/<id>`.  Pure."""

from datetime import UTC, datetime
from typing import Any

from rankcast.tasks.job import JobRecord


def summary(record: JobRecord) -> dict[str, Any]:
    """What a list of jobs shows of each; times as ISO 8601 in UTC, None for what has not been."""
    return {
        "job_id": record.job_id,
        "task": record.task,
        "state": record.state,
        "queue_position": record.queue_position,
        "attempt": record.attempt,
        "losses": record.losses,
        "worker": record.worker,
        "is_cancel_requested": record.is_cancel_requested,
        "created_at": iso(record.created_ms),
        "claimed_at": iso(record.claimed_ms),
        "started_at": iso(record.started_ms),
        "ended_at": iso(record.ended_ms),
        "last_event_id": str(record.last),
        "progress": record.progress,
        "error": record.error,
        "options": record.options,
    }


def attempts(record: JobRecord) -> list[dict[str, Any]]:
    """The history of a job, oldest attempt first: what each came to, and where."""
    return [
        {
            "attempt": each.attempt,
            "worker": each.worker,
            "started_at": iso(each.started_ms),
            "ended_at": iso(each.ended_ms),
            "error": each.error,
        }
        for each in record.attempts
    ]


def timings(record: JobRecord) -> dict[str, float]:
    """How far the job had come after how many milliseconds, in order; the first is 0.

    That is the POST, where the job came with one: until `created` it is the web tier's clock. The claim is
    that of the newest attempt. What lies between it and the end is known once a worker has ended the job
    (gpu_worker/moments.py has the names), as its clock has it; all else is of Redis' clock, which counts
    whole milliseconds.
    """
    accept_ms = record.accept_ms or 0.0
    found = {} if record.accept_ms is None else {"posted": 0.0}
    found["created"] = accept_ms
    if record.claimed_ms:
        newest_ms = record.attempts[-1].started_ms if record.attempts else record.claimed_ms
        queue_ms = float(record.metrics.get("queue_ms", newest_ms - record.created_ms))
        moments = {"claimed": 0.0} | record.metrics.get("moments_ms", {})
        found |= {name: round(accept_ms + queue_ms + after_ms, 3) for name, after_ms in moments.items()}
    if record.ended_ms is not None:
        since_created = float(record.ended_ms - record.created_ms)
        found["ended"] = max([*found.values(), round(accept_ms + since_created, 3)])
    return found


def figures(record: JobRecord) -> dict[str, Any]:
    """What the newest attempt measured of itself, but for its moments: `timings` has those."""
    return {name: value for name, value in record.metrics.items() if name != "moments_ms"}


def iso(ms: int | None) -> str | None:
    """Milliseconds of Unix time as ISO 8601 in UTC, `2026-01-31T12:00:00.000Z`."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
