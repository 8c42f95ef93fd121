"""A Redis that would lose jobs, or lets nobody in, is refused at start-up, where somebody reads it.

Rankcast promises what Redis keeps. A server that evicts keys, or a replica, would break that in
silence, and days later; so web tier and workers look at its settings before they take anything.
Celery's broker may be any server: a lost wake-up costs nothing.

    python -m rankcast.tasks.redis_check        # the Redis at RANKCAST_REDIS_URL; exit code 1: refused
"""

import logging
import sys
from collections.abc import Callable
from typing import TypeVar

import redis

from rankcast.tasks.connect import at_the_edge, connect
from rankcast.tasks.errors import RankcastError, StoreUnavailable
from rankcast.tasks.settings import Settings

T = TypeVar("T")


class UnsafeRedis(RankcastError):
    """Raised when a Redis server would lose jobs, or refuses the password; says what to set."""


def check_redis(url: str, log: logging.Logger) -> None:
    """UnsafeRedis if the server at `url` would lose jobs; what else there is to know goes to `log`.

    A server that does not answer is no error: it may come later than we do. One that asks for
    another password will not change its mind.
    """
    with _client(url) as client:
        try:
            check(client, log)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, redis.AuthenticationError):
                raise UnsafeRedis(
                    f"this Redis lets nobody in with that password ({error.__cause__}); "
                    "RANKCAST_REDIS_URL is redis://:PASSWORD@HOST:PORT/0"
                ) from error
            log.warning("Redis could not be asked whether it keeps what it is told: %s", error)


def _client(url: str) -> redis.Redis:
    try:
        return connect(url)
    except ValueError as error:
        raise UnsafeRedis(f"RANKCAST_REDIS_URL is no URL of a Redis: {error}") from error


def check(client: redis.Redis, log: logging.Logger) -> None:
    """UnsafeRedis, StoreUnavailable."""
    with at_the_edge():
        role = _unless_forbidden(lambda: client.info("replication").get("role"))
        policy = _unless_forbidden(lambda: client.info("memory").get("maxmemory_policy"))
        appendonly = _unless_forbidden(lambda: client.config_get("appendonly").get("appendonly"))
        save = _unless_forbidden(lambda: client.config_get("save").get("save"))
    if role == "slave":
        raise UnsafeRedis(
            "this Redis is a replica and takes no writes; name the primary in RANKCAST_REDIS_URL"
        )
    if policy not in (None, "noeviction"):
        raise UnsafeRedis(
            f"this Redis would throw jobs away when its memory is full (maxmemory-policy {policy}); "
            "set `maxmemory-policy noeviction`, in its configuration or with CONFIG SET"
        )
    if appendonly == "no" and save == "":
        log.warning(
            "this Redis keeps nothing over a restart: jobs and results go with it; "
            "set `appendonly yes`, in its configuration or with CONFIG SET"
        )
    if None in (role, policy, appendonly, save):
        log.info(
            "this Redis does not tell all of its settings; Rankcast needs "
            "`maxmemory-policy noeviction`, `appendonly yes` and a primary"
        )


def _unless_forbidden(ask: Callable[[], T]) -> T | None:
    """None where the server does not know the command or keeps it from us, as managed ones do."""
    try:
        return ask()
    except redis.ResponseError:
        return None


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="rankcast: %(message)s")
    try:
        check_redis(Settings.from_env().redis_url, logging.getLogger(__name__))
    except (UnsafeRedis, ValueError) as error:
        # A string as exit code: printed to stderr, and the code is 1.
        sys.exit(f"rankcast: {error}")


if __name__ == "__main__":
    main()
