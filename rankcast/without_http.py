"""Submitting beside Redis, without HTTP, for code that runs next to it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rankcast.async_client import input_of
from rankcast.client import Job
from rankcast.errors import Fault, InvalidInput
from rankcast.tasks.job import JobOptions, option_faults

if TYPE_CHECKING:
    from rankcast.beside_redis import BesideRedis


def submit(
    task: str,
    input: Mapping[str, Any] | None = None,
    /,
    *,
    options: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
    **fields: Any,
) -> Job:
    """Queue a job, as `Client.submit` does, beside the Redis at RANKCAST_REDIS_URL and without HTTP.

    For code that has the task's name and not its class; with the class at hand there is `Steps.delay`.
    An `idempotency_key` is of the same kind here and over HTTP without keys; another submit under it is
    IdempotencyKeyReused. UnknownTask (no worker ever served it), InvalidInput, QueueFull,
    StoreUnavailable.
    """
    told, options = input_of(input, fields), options or {}
    faults = [Fault(f"$.options.{name}", fault) for name, fault in option_faults(options)]
    if faults:
        raise InvalidInput(faults)
    return reach_redis().submit(task, told, JobOptions(**options), idempotency_key)


def reach_redis() -> "BesideRedis":
    """The way to the jobs that this process has; ImportError, with the cure, on the base install."""
    # Here and not on top: users' classes must import on the base install, without redis and celery,
    # and in a rank, which needs neither until it submits a job itself.
    try:
        from rankcast.beside_redis import beside_redis  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ImportError(
            f"to submit beside Redis, pip install 'rankcast[server]' (missing: {error.name}); "
            "over HTTP there is rankcast.Client"
        ) from error
    return beside_redis()
