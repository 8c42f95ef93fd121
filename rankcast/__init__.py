"""The face of Rankcast: all that users import.

It imports with the base install alone: no Redis, Celery, pydantic or torch.
"""

from rankcast.async_client import AsyncClient, AsyncEventStream, AsyncJob
from rankcast.client import Client, EventStream, Job
from rankcast.distributed_worker import DistributedWorker
from rankcast.errors import (
    ConnectionLost,
    EventTooLarge,
    IdempotencyKeyReused,
    InvalidInput,
    JobCancelled,
    JobError,
    JobFailed,
    NotAllowed,
    NotATask,
    NotEncodable,
    QueueFull,
    RankcastError,
    RequestRefused,
    ServerUnreachable,
    StoreUnavailable,
    UnknownJob,
    UnknownTask,
)
from rankcast.event import Event
from rankcast.tasks.declare import task
from rankcast.transport import LogLine
from rankcast.without_http import submit

__all__ = [
    "AsyncClient",
    "AsyncEventStream",
    "AsyncJob",
    "Client",
    "ConnectionLost",
    "DistributedWorker",
    "Event",
    "EventStream",
    "EventTooLarge",
    "IdempotencyKeyReused",
    "InvalidInput",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "LogLine",
    "NotATask",
    "NotAllowed",
    "NotEncodable",
    "QueueFull",
    "RankcastError",
    "RequestRefused",
    "ServerUnreachable",
    "StoreUnavailable",
    "UnknownJob",
    "UnknownTask",
    "submit",
    "task",
]
