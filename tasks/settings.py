"""What both tiers read from the environment, once, at start-up."""

import os
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
    #: Bound of the event logs of all ended jobs together; None: half of what Redis may use, if it has
    #: a `maxmemory`. Whoever sweeps must have been told the same: the smallest decides.
    max_ended_log_bytes: int | None = None
    #: So many lost attempts end a job; drains do not count.
    max_losses: int = 3
    #: Longest queue of one task; a submit past it is refused.
    max_queued: int = 100_000

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Read RANKCAST_REDIS_URL, RANKCAST_BROKER_URL (default: the same server) and
        RANKCAST_MAX_ENDED_LOG_BYTES; ValueError if that is no whole number above 0.
        """
        redis_url = env.get("RANKCAST_REDIS_URL", DEFAULT_REDIS_URL)
        return cls(
            redis_url=redis_url,
            broker_url=env.get("RANKCAST_BROKER_URL", redis_url),
            max_ended_log_bytes=_bytes(env, "RANKCAST_MAX_ENDED_LOG_BYTES"),
        )


def _bytes(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise ValueError(f"{name} must be a whole number of bytes above 0, not {text!r}")
    return int(text)


def host_name(env: Mapping[str, str] = os.environ) -> str:
    """This host's name as jobs, logs and `rankcast status` show it; RANKCAST_HOST overrides it."""
    return env.get("RANKCAST_HOST") or socket.gethostname()


def cache_folder(env: Mapping[str, str]) -> Path:
    """This user's own place on this host: `$XDG_CACHE_HOME/rankcast`, as the XDG base directory
    specification has it."""
    if cache := env.get("XDG_CACHE_HOME"):
        return Path(cache) / "rankcast"
    if home := env.get("HOME"):
        return Path(home) / ".cache" / "rankcast"
    return Path(tempfile.gettempdir()) / f"rankcast-{os.getuid()}"
