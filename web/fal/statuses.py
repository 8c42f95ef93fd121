"""What fal's clients are told of a request in the queue.  Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rankcast.tasks.job import JobRecord
from rankcast.tasks.logs import LogLine
from rankcast.tasks.state import JobState
from rankcast.web.fal import ids
from rankcast.web.fal.failures import failure


def urls(base: str, task: str, job_id: str) -> dict[str, str]:
    """Where Python's client asks for it again: it takes these as they are."""
    own = f"{base}/queue/{ids.app_of(task)}/requests/{job_id}"
    return {"response_url": own, "status_url": f"{own}/status", "cancel_url": f"{own}/cancel"}


def status(record: JobRecord, base: str, logs: Sequence[LogLine] | None) -> dict[str, Any]:
    """A status object. `logs` None: nobody asked for them."""
    found: dict[str, Any] = {
        "request_id": record.job_id,
        "logs": None if logs is None else [log(line) for line in logs],
        **urls(base, record.task, record.job_id),
    }
    if record.state == JobState.QUEUED:
        return {"status": "IN_QUEUE", **found, "queue_position": record.queue_position or 0}
    if not record.state.is_terminal:
        return {"status": "IN_PROGRESS", **found}
    return {"status": "COMPLETED", **found, "metrics": metrics(record), **_error(record)}


def metrics(record: JobRecord) -> dict[str, float]:
    """`inference_time` in seconds: how long the attempt ran that ended it; nothing where none did."""
    run_ms = record.metrics.get("run_ms")
    return {} if run_ms is None else {"inference_time": run_ms / 1000}


def _error(record: JobRecord) -> dict[str, str]:
    if record.state == JobState.SUCCEEDED:
        return {}
    told = failure(record.state, record.error or {})
    message = (record.error or {}).get("message") or f"Invalid status code: {told.status}"
    return {"error": str(message), "error_type": told.error_type}


def log(line: LogLine) -> dict[str, str]:
    """One printed line, as fal's clients type it."""
    moment = datetime.fromtimestamp(line.ts_ms / 1000, UTC)
    return {
        "message": line.text,
        "level": line.stream.upper(),
        "source": "USER",
        "timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
