"""The redo buffer: what Redis acknowledged, and may have lost in a restart, is told to it again.

A server that is killed can lose the last seconds of what it answered: a job that got its 202, a
cancel, an end that viewers saw. So each process keeps its acknowledged moves for a while, and when
a new connection meets a new run of the server, it makes them again, in order, before anything else
goes over any connection of this process. A move that was not lost finds itself done.

A move is made again where it was made: at the same place of the log, with the same outcome. One that
finds the log short of that place, because what came before it was another process' move, is tried
again for as long as the others may need. The scripts hold back everybody else meanwhile.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import redis

#: Servers sync their log every second, and put it off for two more when the disk is slow.
KEEP_S = 5.0
#: Between two tries of a move that waits for another process to make its own again.
RETRY_S = 0.2
#: Of the moves kept; the oldest go first.
MAX_BYTES = 64 * 1024 * 1024

Args = Sequence[str | bytes | float]
_TEXT = (str, bytes)

log = logging.getLogger(__name__)


class Move(NamedTuple):
    """A script call to be made again: the script's text, its ARGV, when it was acknowledged.

    After `safe_until` it might be no repeat any more but something new.
    """

    name: str
    script: str
    args: Args
    at: float
    safe_until: float
    #: Of the arguments, in bytes, about.
    size: int

    @property
    def job_id(self) -> str:
        found = self.args[2 if self.name == "claim" else 0]
        return found.decode() if isinstance(found, bytes) else str(found)


class RedoBuffer:
    """The moves of one process at one server. Safe to share between threads, and by connections.

    It is called with each new connection (redis-py's `redis_connect_func`).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._moves: deque[Move] = deque()
        self._size = 0
        #: Moves that wait for those of other processes; when to try next, and until when.
        self._waiting: list[Move] = []
        self._retry_at = self._give_up_at = 0.0
        #: Of the server as this process last met it; "" where INFO is kept from us.
        self._run_id = ""

    def __len__(self) -> int:
        """Moves kept now."""
        return len(self._moves)

    @property
    def is_settled(self) -> bool:
        """Nothing waits for another process' moves."""
        return not self._waiting

    def acknowledged(self, name: str, script: str, args: Args, reply: Any) -> None:
        """A script was answered: forget what is safe by now, and keep it if it has to be made again."""
        now, again = self._clock(), _again(name, args, reply)
        with self._lock:
            if again is not None:
                size = sum([len(arg) for arg in again if isinstance(arg, _TEXT)])
                self._moves.append(Move(name, script, again, now, _safe_until(name, args, now), size))
                self._size += size
            self._let_go(now)

    def answered(self) -> None:
        """The server answered something: forget what is safe by now."""
        with self._lock:
            self._let_go(self._clock())

    def _let_go(self, now: float) -> None:
        # What is old by the time of an answer, the answering server has on its disk.
        while self._moves and (self._moves[0].at < now - KEEP_S or self._size > MAX_BYTES):
            self._size -= self._moves.popleft().size

    def __call__(self, connection: Any) -> None:
        """Open a connection: no call goes over it before the moves that a restart may have lost."""
        connection.on_connect()
        run_id = _run_id(connection)
        # Whoever connects meanwhile waits: else it could renew a claim that is not yet made again.
        with self._lock:
            if run_id and self._run_id and run_id != self._run_id:
                self._redo(connection)
            self._run_id = run_id or self._run_id

    def _redo(self, connection: Any) -> None:
        now = self._clock()
        moves = [move for move in self._moves if now < move.safe_until]
        if moves:
            log.warning("Redis was restarted: making %d moves again that it may have lost", len(moves))
        self._waiting = _make(moves, partial(ask, connection))
        self._retry_at, self._give_up_at = now + RETRY_S, now + KEEP_S
        # The new run may be killed as well.
        self._moves = deque(move._replace(at=now) for move in moves)
        self._size = sum(move.size for move in moves)

    def settle(self, client: redis.Redis) -> None:
        """Try again what waits for other processes. Costs nothing while nothing waits."""
        if self.is_settled or self._clock() < self._retry_at:
            return
        with self._lock:
            run_id, moves, self._waiting = self._run_id, self._waiting, []
            self._retry_at = self._clock() + RETRY_S
        left = moves
        try:
            left = _make(moves, client.execute_command)
        finally:
            with self._lock:
                if self._clock() >= self._give_up_at:
                    _tell_lost(left)
                elif self._run_id == run_id:
                    self._waiting = left


def _make(moves: Sequence[Move], call: Callable[..., Any]) -> list[Move]:
    """Make the moves again, in order; returns those that may only be too early."""
    left: list[Move] = []
    for move in moves:
        try:
            reply = call("EVAL", move.script, 0, *move.args)
        except redis.ResponseError as error:
            log.error("%s of job %s could not be made again: %s", move.name, move.job_id, error)
            continue
        if reply[0] != b"OK":
            # An append finds an ended job only where all of its events are: an end is made at its place.
            if (move.name, reply[0]) != ("append", b"FENCED"):
                left.append(move)
        elif move.name in ("finish", "release"):
            # What led to it was not lost, or stands by now.
            left = [each for each in left if each.job_id != move.job_id]
    return left


def _tell_lost(moves: Sequence[Move]) -> None:
    for move in moves:
        if move.name in ("finish", "release", "cancel"):
            log.error("%s of job %s was lost in a restart of Redis", move.name, move.job_id)


#: Where create.lua has the time to live, in ms.
_TTL = 6


def _safe_until(name: str, args: Args, now: float) -> float:
    """A create that is older than its job's time to live could bring back a job that has ended and was
    forgotten; every other move finds by its fence, or by the job's state, that it is late."""
    return now + float(args[_TTL]) / 1000 if name == "create" else math.inf


def _again(name: str, args: Args, reply: Any) -> Args | None:
    """With which arguments a move is made again; None for a script, or an answer, that moved nothing."""
    if not isinstance(reply, list) or not reply or reply[0] != b"OK":
        return None
    match name:
        case "create" if reply[1].decode() == args[0] and len(reply) == 8:
            # When and in which place of the queue it was made, and what its first event told.
            return [*args[:12], *(args[12:] or ("", "")), reply[5], reply[7], reply[3], reply[4]]
        case "claim":
            # This very claim: the job and the fence that it got, or nothing.
            return [*args[:2], reply[1], *args[3:8], reply[2], reply[9]]
        # What another did in its stead is that one's to make again.
        case "finish" if len(reply) == 4:
            return [*args, *reply[1:4]]
        case "release" if len(reply) == 4:
            return [*args, *reply[2:4]]
        # Of a job that had ended otherwise, nothing was asked for.
        case "cancel" if not reply[2] or reply[1] == b"cancelled":
            return [*args, *reply[3:5]]
        case "start" | "append":
            return args
    return None


def _run_id(connection: Any) -> str:
    try:
        info = ask(connection, "INFO", "server")
    except redis.ResponseError:
        return ""
    text = info if isinstance(info, str) else bytes(info).decode(errors="replace")
    found = [line for line in text.splitlines() if line.startswith("run_id:")]
    return found[0].partition(":")[2] if found else ""


def ask(connection: Any, *args: Any) -> Any:
    """What the server answers on this connection; one that fails is closed by redis-py."""
    connection.send_command(*args)
    return connection.read_response()
