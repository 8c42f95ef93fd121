"""Connections to Redis, and the Lua scripts that run over them.

The one place that knows how a script reaches the server, and what an unreachable server looks
like: redis-py's errors become StoreUnavailable here and travel no further.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.redo import RedoBuffer, ask

#: Seconds for one reply, and for connecting. Whoever keeps a lease asks for less.
SOCKET_TIMEOUT_S = 5.0

#: What adds work or data is refused once Redis is at `maxmemory`; what ends or keeps a job is not.
REFUSED_WHEN_FULL = frozenset({"create", "append", "log"})


def connect(
    url: str,
    *,
    socket_timeout_s: float = SOCKET_TIMEOUT_S,
    max_connections: int | None = None,
    **options: Any,
) -> redis.Redis:
    """A client for `redis://`, `rediss://` or `unix://`; connects at the first call, safe to share
    between threads, not across a fork.

    The library's own retries are off: a retry that hides a restart of Redis hides lost events (the
    caller must look first). A restart between two calls is no error all the same: redis-py sees
    that the idle connection was closed and opens another. Who must know compares `run_id`.
    Callers past `max_connections` wait for one another. `options` are redis-py's.
    """
    options = {
        "redis_connect_func": _redo_buffer(url),
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": socket_timeout_s,
        "socket_connect_timeout": socket_timeout_s,
        "socket_keepalive": True,
        **options,
    }
    if max_connections is None:
        return redis.Redis.from_url(url, **options)
    pool = redis.BlockingConnectionPool.from_url(
        url, max_connections=max_connections, timeout=socket_timeout_s, **options
    )
    return redis.Redis.from_pool(pool)


@cache
def _redo_buffer(url: str) -> RedoBuffer:
    """The one of this process for that server: whichever connection finds it restarted makes all
    moves again."""
    return RedoBuffer()


@contextmanager
def at_the_edge() -> Iterator[None]:
    """Turn "Redis did not answer, or cannot write" into StoreUnavailable."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise StoreUnavailable(f"Redis does not answer: {error}") from error
    except (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError) as error:
        raise StoreUnavailable(f"Redis takes no writes: {error}") from error
    except redis.ResponseError as error:
        # MISCONF: the disk under Redis' own log is full or failing.
        if "MISCONF" not in str(error):
            raise
        raise StoreUnavailable(f"Redis takes no writes: {error}") from error


class _Source(NamedTuple):
    text: str
    sha: str


#: File of lua/ -> what is in it. Read at once: later a process may have no descriptor left to open one.
_LUA = {
    file.name: file.read_text()
    for file in resources.files("rankcast.tasks.lua").iterdir()
    if file.name.endswith(".lua")
}


@cache
def _source(name: str, has_shebang: bool) -> _Source:
    text = _LUA["prelude.lua"] + _LUA[f"{name}.lua"]
    if has_shebang and name not in REFUSED_WHEN_FULL:
        text = f"#!lua flags=allow-oom\n{text}"
    return _Source(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class Scripts:
    """The scripts of `lua/`, each run as one EVALSHA."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._has_shebang = True
        # None for a client that `connect` did not make.
        greeting = client.connection_pool.connection_kwargs.get("redis_connect_func")
        self._redo = greeting if isinstance(greeting, RedoBuffer) else None

    def run(self, name: str, *args: str | bytes | float) -> Any:
        """Run `lua/<name>.lua` with ARGV `args` and return its reply.

        StoreUnavailable when there is none; the script may have run all the same.
        """
        with at_the_edge():
            try:
                return self._call(name, args)
            except redis.ResponseError as error:
                # A server that cannot parse `#!lua` (Redis before 7, fakeredis) stopped before it ran
                # anything.
                if not self._has_shebang or "unexpected symbol near '#'" not in str(error):
                    raise
                self._has_shebang = False
                return self._call(name, args)

    def look(self) -> None:
        """Find out whether the server was restarted, while that could have cost a move of this process."""
        if self._redo is not None and len(self._redo):
            with at_the_edge():
                self._redis.ping()
                self._redo.answered()
                self._redo.settle(self._redis)

    def _call(self, name: str, args: tuple[str | bytes | float, ...]) -> Any:
        source = _source(name, self._has_shebang)
        if self._redo is not None:
            self._redo.settle(self._redis)
        try:
            reply = self._ask("EVALSHA", source.sha, 0, *args)
        except redis.exceptions.NoScriptError:
            # A server forgets its scripts when it restarts.
            reply = self._ask("EVAL", source.text, 0, *args)
        if self._redo is not None:
            self._redo.acknowledged(name, source.text, args, reply)
        if isinstance(reply, list) and reply[:1] == [b"SETTLING"]:
            raise StoreUnavailable("Redis was restarted, and not all processes have told it what it lost")
        return reply

    def _ask(self, *command: str | bytes | float) -> Any:
        """As the client's `execute_command`, without its retries (there are none) and its measurements: the
        thread that computes waits for the interpreter while a rank's publisher is busy with them."""
        pool = self._redis.connection_pool
        connection = pool.get_connection()
        try:
            return ask(connection, *command)
        finally:
            pool.release(connection)
