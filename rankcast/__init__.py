"""The face of Rankcast: all that users import.

It imports with the base install alone: no Redis, Celery, pydantic or torch.
"""

from rankcast.client import Client, Event, Job
from rankcast.distributed_worker import DistributedWorker
from rankcast.errors import (
    ConnectionLost,
    EventTooLarge,
    InvalidInput,
    JobCancelled,
    JobError,
    JobFailed,
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
from rankcast.tasks.declare import task
from rankcast.transport import LogLine

__all__ = [
    "Client",
    "ConnectionLost",
    "DistributedWorker",
    "Event",
    "EventTooLarge",
    "InvalidInput",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "LogLine",
    "NotATask",
    "NotEncodable",
    "QueueFull",
    "RankcastError",
    "RequestRefused",
    "ServerUnreachable",
    "StoreUnavailable",
    "UnknownJob",
    "UnknownTask",
    "task",
]
