"""Step 4. The worker's handle on its forkserver, which starts every rank.

A process that has torch and the users' modules imported, and CUDA untouched, forks a rank in
milliseconds; a fresh interpreter takes seconds. multiprocessing has the server; what comes over to
it from here is the order of what to preload, and what a child shall run (birth.py).

One per process, started from the main thread: the server dies with the THREAD that started it
(lineage.py). The worker itself imports neither torch nor users' code; it asks a child.
"""

import json
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, Literal, Self

from rankcast.gpu_worker.birth import Birth
from rankcast.gpu_worker.child import Child
from rankcast.gpu_worker.messages import Describe, Described
from rankcast.gpu_worker.pipe import BlockingEnd
from rankcast.gpu_worker.processes import is_readable
from rankcast.tasks.declare import is_file
from rankcast.tasks.errors import RankcastError

PRELOAD = "rankcast.gpu_worker.preload"
#: Read by preload.py; named there too, because this process must not import it.
ORDER = "RANKCAST_FORKSERVER"
#: Importing users' code may download or compile something; past this it hangs.
IMPORT_TIMEOUT_S = 600.0
FORK_TIMEOUT_S = 30.0

# What multiprocessing keeps to itself and a clean end needs: the pid and the way to stop.
_server: Any = forkserver._forkserver


class ForkServerLost(RankcastError):
    """Raised when the forkserver is gone or does not answer."""


class TasksNotLoadable(RankcastError):
    """Raised when users' code cannot be imported; the message has file, line and reason of each fault.

    `faults` are dicts with `spec`, `message`, `file`, `line` and `traceback`.
    """

    def __init__(self, faults: Sequence[dict[str, Any]]) -> None:
        super().__init__("\n".join(_fault_line(fault) for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDescription:
    """A task as its worker knows it: all of `@task`, the shapes, and where its code is."""

    name: str
    #: Absolute path of a Python file, or a module's name.
    spec: str
    #: Class and file, for people.
    place: str
    world_size: int
    timeout_s: float | None
    total_timeout_s: float | None
    stall_s: float | None
    silence_s: float
    setup_timeout_s: float
    cancel_grace_s: float
    retries: int
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None
    code_version: str
    description: str
    #: For the worker's log.
    warnings: tuple[str, ...] = ()
    #: Why its ranks start as fresh interpreters, in seconds; None when they can be forked.
    unforkable: str | None = None

    @property
    def start_method(self) -> Literal["fork", "spawn"]:
        return "spawn" if self.unforkable else "fork"


class ForkServer:
    """A running forkserver and what it told of its tasks. Made by `start`; `fork` from any thread."""

    def __init__(self, specs: Sequence[str]) -> None:
        self.specs = tuple(_absolute(spec) for spec in specs)
        self.tasks: tuple[TaskDescription, ...] = ()
        self.device_count = 0
        self._unforkable: dict[str, str] = {}
        self._sys_path = tuple(os.path.abspath(entry) for entry in sys.path)
        self._launching = threading.Lock()
        self._is_stopped = False

    @classmethod
    def start(
        cls, specs: Sequence[str], *, counts_devices: bool = True, timeout_s: float = IMPORT_TIMEOUT_S
    ) -> Self:
        """Start the forkserver for these files and modules, and learn what tasks they hold.

        From the main thread and one at a time, or RuntimeError. TasksNotLoadable for users' code
        that does not import or declare what could run; ForkServerLost when the import ends the
        process, or takes longer than `timeout_s`.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "the forkserver is started from the main thread: it dies with the thread that starts it"
            )
        if _server._forkserver_pid is not None:
            raise RuntimeError("this process has a forkserver already; stop that first")
        server = cls(specs)
        try:
            server._learn(counts_devices, timeout_s)
        except BaseException:
            server.stop()
            raise
        return server

    @property
    def pid(self) -> int | None:
        pid: int | None = _server._forkserver_pid
        return pid

    def fork(
        self,
        module: str,
        fds: Sequence[int],
        *,
        is_fresh: bool = False,
        timeout_s: float = FORK_TIMEOUT_S,
    ) -> Child:
        """A child that runs `main(fds)` of `module`; the fds are duplicated, the caller's stay open.

        `is_fresh`: in a new interpreter instead of a fork. ForkServerLost when it does not come.
        """
        birth = Birth(module, self._sys_path if is_fresh else None)
        status_fd, data_fd = self._connect(fds)
        try:
            with open(data_fd, "wb") as data, suppress(BrokenPipeError):
                # The first is multiprocessing's preparation data: nothing to prepare.
                data.write(pickle.dumps({}) + pickle.dumps(birth))
            if not is_readable(status_fd, timeout_s):
                raise ForkServerLost(f"the forkserver does not answer within {timeout_s:g} s")
            return Child(int(forkserver.read_signed(status_fd)), status_fd)
        except EOFError:
            os.close(status_fd)
            names = ", ".join(self.specs)
            raise ForkServerLost(f"the forkserver, which imports {names}, ended {self._ending()}") from None
        except BaseException:
            os.close(status_fd)
            raise

    def stop(self) -> None:
        """End the forkserver, and with it every child that is still there; `fork` refuses from now
        on. Does no harm twice."""
        with self._launching:
            self._is_stopped = True
            self._end()

    def _end(self) -> None:
        if self.pid is None:
            return
        # Not by closing its pipe, multiprocessing's way: every child holds the other end of that.
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        _server._stop()

    def _connect(self, fds: Sequence[int]) -> tuple[int, int]:
        """Ask for a child: descriptors for its status, and for what it shall do.

        The server is launched where it does not run, and again where it was killed: its ranks died
        with it, so there is nothing to save. multiprocessing would relaunch by itself, but without
        the order.
        """
        with self._launching:
            if self._is_stopped:
                raise ForkServerLost("the forkserver was stopped")
            while True:
                if self.pid is None or _has_ended(self.pid):
                    with self._order():
                        forkserver.set_forkserver_preload([PRELOAD])
                        forkserver.ensure_running()
                asked = self.pid
                status_fd, data_fd = forkserver.connect_to_new_process(list(fds))
                if self.pid == asked:
                    return status_fd, data_fd
                # It was killed in between, and multiprocessing has launched another.
                os.close(status_fd)
                os.close(data_fd)
                self._end()

    def _learn(self, counts_devices: bool, timeout_s: float) -> None:
        while True:
            forkable = [spec for spec in self.specs if spec not in self._unforkable]
            told = self._ask(forkable, counts_devices=counts_devices, is_fresh=False, timeout_s=timeout_s)
            found = {s: reason for s, reason in told.unforkable.items() if s not in self._unforkable}
            if not found:
                break
            # What such an import leaves in the server harms everybody's forks: start over without it.
            self._unforkable |= found
            self._end()
        rest = list(self._unforkable)
        apart = self._ask(rest, counts_devices=False, is_fresh=True, timeout_s=timeout_s) if rest else None
        if faults := told.faults + (apart.faults if apart else []):
            raise TasksNotLoadable(faults)
        self.device_count = told.device_count
        self.tasks = self._described(told.tasks + (apart.tasks if apart else []))

    def _described(self, rows: Sequence[dict[str, Any]]) -> tuple[TaskDescription, ...]:
        tasks: dict[str, TaskDescription] = {}
        for row in rows:
            task = TaskDescription(**row)
            task = replace(task, warnings=tuple(task.warnings), unforkable=self._unforkable.get(task.spec))
            if other := tasks.get(task.name):
                message = f"the task {task.name!r} is declared twice, by {other.place} and by {task.place}"
                raise TasksNotLoadable([{"spec": task.spec, "message": message}])
            tasks[task.name] = task
        return tuple(tasks.values())

    def _ask(self, specs: list[str], *, counts_devices: bool, is_fresh: bool, timeout_s: float) -> Described:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                child = self.fork(
                    "rankcast.gpu_worker.describe", [theirs.fileno()], is_fresh=is_fresh, timeout_s=timeout_s
                )
            pipe = BlockingEnd(ours, timeout_s)
            with suppress(OSError):
                pipe.send(Describe(specs, counts_devices))
            told = pipe.receive()
        has_ended = child.wait(FORK_TIMEOUT_S if told else 0)
        if not has_ended:
            child.kill()
        child.close()
        if not isinstance(told, Described):
            names = ", ".join(specs)
            how = "ended" if has_ended else f"did not finish within {timeout_s:g} s"
            raise ForkServerLost(f"the process that imports {names} {how}; its output says more")
        return told

    @contextmanager
    def _order(self) -> Iterator[None]:
        """The environment that the server starts with. Preloading happens before its `sys.path` is
        set, but PYTHONPATH reaches it; the server puts the variables back before it goes on."""
        changed = {"PYTHONPATH": os.pathsep.join(self._sys_path), "PYTHONSAFEPATH": "1"}
        before = {name: os.environ.get(name) for name in changed}
        order = {
            "worker_pid": os.getpid(),
            "specs": [spec for spec in self.specs if spec not in self._unforkable],
            "sys_path": self._sys_path,
            "environ": before,
        }
        os.environ.update(changed | {ORDER: json.dumps(order)})
        try:
            yield
        finally:
            del os.environ[ORDER]
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def _ending(self) -> str:
        status = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT) if self.pid else None
        if status is None:
            return "before it answered"
        if status.si_code == os.CLD_EXITED:
            return f"with exit code {status.si_status}"
        return f"by {signal.Signals(status.si_status).name}"


def _absolute(spec: str) -> str:
    return str(Path(spec).resolve()) if is_file(spec) else spec


def _has_ended(pid: int) -> bool:
    """Without reaping it: multiprocessing wants to do that."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _fault_line(fault: dict[str, Any]) -> str:
    where = f"{fault['file']}:{fault['line']}: " if fault.get("file") else ""
    return f"cannot load the tasks of {fault['spec']!r}: {where}{fault['message']}"
