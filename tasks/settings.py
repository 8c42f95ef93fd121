"""What both tiers read from the environment, once, at start-up."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where Redis is, and the bounds that hold for a whole deployment; sizes in bytes, times in seconds."""

    #: Jobs, logs and indexes. `rediss://:password@host:port/db` for TLS.
    redis_url: str = DEFAULT_REDIS_URL
    #: Celery's wake-ups; the same server unless told otherwise.
    broker_url: str = DEFAULT_REDIS_URL
    #: Right to work on a job without renewing it.
    lease_s: float = 15.0
    #: A worker is alive if it was heard within this time.
    worker_ttl_s: float = 10.0
    #: Bounds of one job's event log.
    max_log_events: int = 100_000
    max_log_bytes: int = 64 * 1024 * 1024
    #: So many lost attempts end a job; drains do not count.
    max_losses: int = 3
    #: Longest queue of one task; a submit past it is refused.
    max_queued: int = 100_000

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Read RANKCAST_REDIS_URL and RANKCAST_BROKER_URL (default: the same server)."""
        redis_url = env.get("RANKCAST_REDIS_URL", DEFAULT_REDIS_URL)
        return cls(redis_url=redis_url, broker_url=env.get("RANKCAST_BROKER_URL", redis_url))


def host_name(env: Mapping[str, str] = os.environ) -> str:
    """This host's name as jobs, logs and `rankcast status` show it; RANKCAST_HOST overrides it."""
    return env.get("RANKCAST_HOST") or socket.gethostname()
