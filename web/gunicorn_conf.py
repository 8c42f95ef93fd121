"""How gunicorn runs the web tier. Every value may still be given on gunicorn's command line.

Streams are long: gevent's greenlets carry them, a process's hub starts after the fork, and SIGTERM
ends those that can be resumed elsewhere at once, so that a deploy does not wait for them.
"""

import gc
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import gevent

from rankcast.tasks.disk import refuse_unwritable
from rankcast.tasks.errors import RankcastError
from rankcast.web.exposure import is_loopback
from rankcast.web.keyring import read_keys
from rankcast.web.redaction import Redacting
from rankcast.web.settings import WebSettings

bind = os.environ.get("RANKCAST_BIND", "127.0.0.1:8700")
workers = int(os.environ.get("RANKCAST_WEB_WORKERS", "1"))
#: The take-over of streams comes with its worker, and with no other; without it each stream has a greenlet.
worker_class = "rankcast.web.worker.StreamWorker" if find_spec("rankcast.web.takeover") else "gevent"
#: Open connections of one process; for the streams with ids there is room beside them (RANKCAST_MAX_STREAMS).
worker_connections = 10_000
#: What a process opens beside connections and streams, about.
SPARE_DESCRIPTORS = 256
#: Longest that direct streams, which nobody can resume, hold up the end of a process; seconds.
graceful_timeout = 10
#: So long before that they are told that the process ends, and which job goes on; seconds.
LAST_CALL_S = 2
#: An idle connection also holds it up.
keepalive = 5
#: A process that does not even run its timer for so long is replaced.
timeout = 60
#: All gunicorns of a user would share one path in their home; signals do all we need.
control_socket_disable = True
#: What the kernel keeps of a stream that its client does not take; by itself it would keep megabytes.
UNSENT_BYTES = 64 * 1024


def on_starting(server: Any) -> None:
    """Before anything listens: keys that cannot be read, a Redis that would lose jobs, or a folder that
    takes no files, end gunicorn with one line and code 1. Each connection gets its descriptor, and so does
    each stream."""
    try:
        settings = WebSettings.from_env()
        if settings.keys is not None:
            read_keys(settings.keys)
    except (RankcastError, ValueError) as error:
        # A string as exit code: printed to stderr, and the code is 1.
        sys.exit(f"rankcast: {error}")
    wanted = Room(server.cfg.worker_connections, settings.max_streams)
    limit = raise_descriptor_limit(sum(wanted) + SPARE_DESCRIPTORS)
    if (room := wanted.within(limit)) != wanted:
        server.log.warning(
            "a process may open %d files here (ulimit -Hn): room for %d streams, not %d, and %d connections",
            *(limit, room.streams, wanted.streams, room.connections),
        )
    # A process of its own, because gevent patches the workers after they were forked from this one:
    # what it had imported of redis by then would stay unpatched.
    check = subprocess.run([sys.executable, "-P", "-m", "rankcast.tasks.redis_check"], check=False)
    if check.returncode:
        sys.exit(1)
    if shared := os.environ.get("RANKCAST_SHARED"):
        try:
            refuse_unwritable(Path(shared))
        except ValueError as error:
            sys.exit(f"rankcast web: {error}")


class Room(NamedTuple):
    """What one process has at most: streams with ids, and connections beside them."""

    connections: int
    streams: int

    def within(self, limit: int) -> "Room":
        """As much of it as goes with so many descriptors; where that is not all, most of it are streams."""
        left = max(limit - SPARE_DESCRIPTORS, limit // 2)
        if sum(self) <= left:
            return self
        connections = min(self.connections, left // 4)
        return Room(connections, min(self.streams, left - connections))


def raise_descriptor_limit(wanted: int) -> int:
    """Shells begin with 1,024, which are the first thousand viewers. What it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if resource.RLIM_INFINITY != soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return descriptor_limit()


def descriptor_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def make_room(worker: Any, services: Any) -> None:
    """Whoever comes when there are so many streams is refused one, and not left without a descriptor."""
    wanted = Room(worker.cfg.worker_connections, services.settings.max_streams)
    room = wanted.within(descriptor_limit())
    services.places.limit = room.streams
    # A stream that is not taken over is a connection of gunicorn's all the time.
    worker.worker_connections = room.connections + (room.streams if services.door is None else 0)


def when_ready(server: Any) -> None:
    """Before anything is served: without keys only this machine may reach it, unless that is meant."""
    settings = WebSettings.from_env()
    if settings.keys is not None or settings.is_open:
        return
    for listener in server.LISTENERS:
        host = listener.sock.getsockname()[0] if listener.sock.family != socket.AF_UNIX else "localhost"
        if not is_loopback(host):
            sys.exit(
                f"rankcast: {host} can be reached by others, and there are no keys: anybody could run jobs. "
                "Name a file of keys in RANKCAST_KEYS (rankcast keys create makes it), or set RANKCAST_OPEN=1"
            )


def pre_request(worker: Any, request: Any) -> None:
    """A connection ends with a stream that can be resumed, so that a viewer who comes back may meet another
    process; and with an upload, the rest of which would be read before another request, however large it is.

    Not with another stream: after `Connection: close` Node takes one that breaks off for whole."""
    is_resumable = request.path.startswith("/jobs/") and request.path.endswith("/stream")
    if is_resumable or is_upload(request.method, request.path):
        request.force_close()


def is_upload(method: str, path: str) -> bool:
    """Whether the body is a file: ours, or fal's under either name of its host."""
    return method in ("POST", "PUT") and path.removeprefix("/cdn").startswith("/files")


def post_worker_init(worker: Any) -> None:
    services = worker.wsgi.extensions["rankcast"]
    services.access_log = worker.log
    services.blocking = in_a_thread
    make_room(worker, services)
    for listener in worker.sockets:
        bound_clients(listener, services.settings.send_timeout_s)
    worker.log.error_log.addFilter(tell_stalled_client)
    for handler in (*worker.log.error_log.handlers, *worker.log.access_log.handlers):
        handler.setFormatter(Redacting(handler.formatter))
    logging.getLogger("rankcast").handlers = worker.log.error_log.handlers
    logging.getLogger("rankcast").setLevel(worker.log.error_log.level)
    services.start()
    # What there is by now stays: to look through it for garbage took a fifth of all CPU.
    gc.freeze()
    leave = signal.getsignal(signal.SIGTERM)

    def end_streams_and_leave(signum: int, frame: FrameType | None) -> None:
        # Not here: a signal handler may not wait for locks.
        gevent.spawn(services.leave)
        last_call_s = max(0.0, worker.cfg.graceful_timeout - LAST_CALL_S)
        gevent.spawn_later(last_call_s, services.leave, is_last_call=True)
        if callable(leave):
            leave(signum, frame)

    signal.signal(signal.SIGTERM, end_streams_and_leave)


def in_a_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call it in a thread of the system's own, while others go on: of those that Python has, gevent made
    greenlets. What it raises is raised here."""
    result, error = gevent.get_hub().threadpool.apply(_outcome, (function, args))
    if error is not None:
        raise error
    return result


def _outcome(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    # What a thread raises gevent prints as well, with a traceback, and never answers if that fails: a full
    # disk may be the one of the log, too.
    try:
        return function(*args), None
    except Exception as error:
        return None, error


def bound_clients(listener: Any, send_timeout_s: float) -> None:
    """What a client that does not read may hold, and for how long. Its connections inherit it.

    The kernel counts the time in which a connection makes no progress at all, so a client that is
    merely slow is left alone; a write under way fails with ETIMEDOUT.
    """
    if listener.family == socket.AF_UNIX or sys.platform != "linux":
        return
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(send_timeout_s * 1000))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def tell_stalled_client(record: logging.LogRecord) -> bool:
    """A filter of gunicorn's log: a client that was cut off is one line, and no error with a traceback."""
    if record.exc_info and isinstance(record.exc_info[1], TimeoutError):
        record.levelno, record.levelname, record.exc_info = logging.INFO, "INFO", None
        record.msg, record.args = "a client that took nothing any more was cut off", ()
    return True
