"""A Redis in this process whose clock is the test's, and which can restart without its last scripts.

fakeredis, so that a random walk is the same each time it is walked, and 20 seconds pass at once. It
knows no INFO: the sockets here answer it with the `run_id` of a server that was restarted as often as
this one. One script is one transaction in a real server's log, so what any kill leaves is a state that
was between two scripts.
"""

import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import resources
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import redis
from fakeredis import FakeRedis, FakeServer
from fakeredis._clients._sync import FakeRedisConnection
from fakeredis._commands import Signature
from fakeredis._helpers import SimpleError
from fakeredis._socket import FakeSocket

from rankcast.tasks.redo import RedoBuffer

#: Where fakeredis asks for the time.
_ASKS_FOR_THE_TIME = ("_helpers", "_socket._base", "commands_mixins.server_mixin", "model._stream")
_SCRIPTS = [
    each
    for each in resources.files("rankcast.tasks.lua").iterdir()
    if each.name.endswith(".lua") and each.name != "prelude.lua"
]
#: First line of each script, which is a comment of its own, and the script's name.
_NAMES = {each.read_text().split("\n", 1)[0].encode(): each.name.removesuffix(".lua") for each in _SCRIPTS}


class Ran(NamedTuple):
    """A script that ran and wrote: which, with which ARGV, from which process; what Redis held before."""

    name: str
    args: Sequence[bytes]
    process: str
    at_s: float
    before: bytes
    after: bytes

    def touched(self) -> set[str]:
        """The jobs whose record or log it changed."""
        before, after = _by_key(self.before), _by_key(self.after)
        changed = {key for key in before | after if before.get(key) != after.get(key)}
        return {key.decode().split(":")[2] for key in changed if key.startswith(b"rankcast:job:")}


def _by_key(held: bytes) -> dict[bytes, bytes]:
    return {key: pickle.dumps(item) for key, item in pickle.loads(held).items()}  # noqa: S301


class RewindingRedis:
    """The server. Use it as a context manager: meanwhile fakeredis lives by this clock."""

    #: A killed server may forget so much: a second between two syncs, two more on a slow disk.
    FORGETS_S = 3.0

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0
        self.run = 1
        self.ran: deque[Ran] = deque(maxlen=40)
        self._server = FakeServer()
        self._server.lives_in = self  # type: ignore[attr-defined]
        self._held = self._dumped()
        self._pools: list[redis.ConnectionPool] = []

    @contextmanager
    def ticking(self) -> Iterator["RewindingRedis"]:
        """Meanwhile fakeredis lives by `now_s`."""
        clock = SimpleNamespace(time=lambda: self.now_s)
        with ExitStack() as stack:
            for module in _ASKS_FOR_THE_TIME:
                stack.enter_context(patch(f"fakeredis.{module}.time", clock))
            yield self

    def client(self, process: str, redo: RedoBuffer | None = None) -> "Client":
        """A client of one process, with that process' redo buffer."""
        made = Client(self._server, process, redo)
        self._pools.append(made.connection_pool)
        return made

    def forgettable(self) -> list[Ran]:
        """The newest scripts, oldest first, as far back as a kill could take them."""
        return [ran for ran in self.ran if ran.at_s >= self.now_s - self.FORGETS_S]

    def restart_without(self, count: int) -> list[Ran]:
        """Kill it, and start it with what it held before its last `count` scripts; those are returned."""
        lost = self.forgettable()[-count:] if count else []
        if lost:
            self._restore(lost[0].before)
            for _ in lost:
                self.ran.pop()
        self.run += 1
        # No restart is over within the millisecond in which a fence may be drawn twice.
        self.now_s += 0.1
        self._server.script_cache.clear()
        for pool in self._pools:
            pool.disconnect()
        return lost

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody reaches it meanwhile."""
        self._server.connected = False
        yield
        self._server.connected = True
        for pool in self._pools:
            pool.disconnect()

    def has_run(self, name: str, args: Sequence[bytes], process: str) -> None:
        """A script is over."""
        before, self._held = self._held, self._dumped()
        if before != self._held:
            self.ran.append(Ran(name, args, process, self.now_s, before, self._held))
        self.now_s += 0.001

    def _dumped(self) -> bytes:
        return pickle.dumps(self._server.dbs[0]._dict)

    def _restore(self, held: bytes) -> None:
        database = self._server.dbs[0]
        with self._server.lock:
            database.clear()
            for key, item in pickle.loads(held).items():  # noqa: S301
                database[key] = item
        self._held = held


class Client(FakeRedis):
    """What one process has of the server."""

    def __init__(self, server: FakeServer, process: str, redo: RedoBuffer | None) -> None:
        #: Set, the reply of the next script is lost on its way back.
        self.loses_reply = False
        line = type("Line", (_Line,), {"process": process, "client": self})
        super().__init__(server=server, connection_class=line, retry=None)
        if redo is not None:
            self.connection_pool.connection_kwargs["redis_connect_func"] = redo


class _Line(FakeRedisConnection):
    process: str
    client: Client
    _is_script = False

    def _connect(self) -> FakeSocket:
        if not self._server.connected:
            raise redis.ConnectionError("away")
        socket = _Socket(
            self._server,
            client_class=self._client_class,
            db=self.db,
            lua_modules=self._lua_modules,
            client_info=self._client_info,
        )
        socket.process = self.process
        return socket

    def send_command(self, *args: Any, **kwargs: Any) -> None:
        self._is_script = args[0] in ("EVAL", "EVALSHA")
        super().send_command(*args, **kwargs)

    def read_response(self, **kwargs: Any) -> Any:
        reply = super().read_response(**kwargs)
        if self._is_script and self.client.loses_reply:
            self.client.loses_reply = False
            raise redis.ConnectionError("the reply was lost")
        return reply


class _Socket(FakeSocket):
    process = ""

    def _name_to_func(self, cmd_name: str) -> Any:
        if cmd_name == "info":
            return self._info, Signature("info", "_info", (), (bytes,))  # type: ignore[arg-type]
        return super()._name_to_func(cmd_name)

    def _info(self, *sections: bytes) -> bytes:
        return f"# Server\r\nrun_id:{self._server.lives_in.run:040x}\r\n".encode()  # type: ignore[attr-defined]

    def eval(self, script: bytes, numkeys: int, *keys_and_args: bytes) -> Any:
        if script.startswith(b"#!"):
            raise SimpleError("unexpected symbol near '#'")
        it: RewindingRedis = self._server.lives_in  # type: ignore[attr-defined]
        reply = super().eval(script, numkeys, *keys_and_args)
        it.has_run(next(name for line, name in _NAMES.items() if line in script), keys_and_args, self.process)
        return reply
