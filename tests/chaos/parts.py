"""The processes of a whole deployment, each of which can be killed, frozen and started again.

One Redis with its log on disk, two web tiers, two workers that stand for two hosts: started with the
commands that `rankcast up` and users start them with.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import httpx
import psutil
import redis
from commands import RANKCAST
from helpers import clean_env, free_port, marked, marked_processes, wait_until

from rankcast.cli.embedded import Embedded
from rankcast.cli.processes import WORKER_READY
from rankcast.tasks.connect import connect

TASKS = Path(__file__).with_name("tasks.py")
#: A worker imports torch before it is ready, on a machine that is busy with all the others.
START_TIMEOUT_S = 90.0
#: After which nothing of a killed part may be left.
GONE_TIMEOUT_S = 10.0
END_TIMEOUT_S = 40.0


class Part:
    """One process with all that it starts itself; a new incarnation after each end."""

    def __init__(self, name: str, command: list[str], *, folder: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.folder = folder / name
        self.folder.mkdir()
        self.log = folder / f"{name}.log"
        self._command = command
        self._env = dict(env)
        self._marked: Mapping[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        #: Where the log of this incarnation begins.
        self._log_start = 0

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def is_up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, stdin: str = "") -> None:
        """Begin a new incarnation; `wait_ready` says when it serves."""
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self._marked = clean_env(**self._env)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self._marked,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        assert self._process.stdin is not None
        self._process.stdin.write(stdin.encode())
        self._process.stdin.close()

    def wait_ready(self) -> None:
        def is_ready_or_over() -> bool:
            return not self.is_up or self.serves()

        wait_until(is_ready_or_over, f"{self.name} serves", timeout_s=START_TIMEOUT_S)
        assert self.is_up, f"{self.name} ended: {self.told()[-2000:]}"

    def serves(self) -> bool:
        raise NotImplementedError

    def told(self) -> str:
        """What this incarnation wrote to its log."""
        return self.log.read_bytes()[self._log_start :].decode(errors="replace")

    def family(self) -> list[psutil.Process]:
        """The living processes of this incarnation."""
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        return []

    def left(self) -> list[str]:
        """The processes of this incarnation, also those that lost their parent."""
        return marked(self._marked)

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def freeze(self) -> None:
        """SIGSTOP, and wait until no thread of it runs any more: the signal is one thread's to take, and
        the others go on until that one has had its turn."""
        self.send(signal.SIGSTOP)
        wait_until(self._stands_still, f"{self.name} stands still")

    def _stands_still(self) -> bool:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            states = Path("/proc", str(self.pid), "task").glob("*/stat")
            return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in states)
        return False

    def send_all(self, number: signal.Signals) -> None:
        """To the whole family; who stops is told first, so that nobody can react to the others."""
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> list[str]:
        """SIGKILL to the one process that was started; what is left of its family too long after."""
        self.send(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        return self._clear()

    def _clear(self) -> list[str]:
        """What is left of a part too long after its end; it is ended here."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self.left(), "the end of the family", timeout_s=GONE_TIMEOUT_S)
        left = self.left()
        for process in marked_processes(self._marked) if left else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return left

    def end(self) -> list[str]:
        """SIGTERM, and wait for the end in good order; what is left then."""
        if self._process is None:
            return []
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        return self.wait_end()

    def wait_end(self) -> list[str]:
        """What is left after an end in good order, which somebody asked for."""
        assert self._process is not None
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return [f"{self.name} did not end within {END_TIMEOUT_S:g} s of its SIGTERM", *self.kill()]
        return self._clear()


class Redis(Part):
    """The server that `rankcast up` brings along, with its settings, on a port that stays."""

    def __init__(self, folder: Path) -> None:
        self._embedded = Embedded.draw(folder / "redis")
        super().__init__("redis", self._embedded.command, folder=folder, env={})
        self.url = self._embedded.url
        self.client: redis.Redis = connect(self.url)

    def start(self, stdin: str = "") -> None:
        super().start(self._embedded.config)

    def serves(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            # Not there yet, or still loading its log.
            return False

    def log_size(self) -> int:
        """How much the append-only file has."""
        return self._newest_log().stat().st_size

    def tear_log(self, size: int) -> None:
        """Cut the last bytes off the append-only file, as a power cut may."""
        os.truncate(self._newest_log(), max(0, self.log_size() - size))

    def _newest_log(self) -> Path:
        logs = (self.folder / "appendonlydir").glob("*.incr.aof")
        return max(logs, key=lambda path: path.stat().st_mtime)


class Web(Part):
    """One web tier; its port stays over all incarnations."""

    def __init__(self, name: str, folder: Path, redis_url: str, env: Mapping[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [*RANKCAST, "web", "--port", str(port), "--redis-url", redis_url]
        super().__init__(name, command, folder=folder, env={"RANKCAST_KEEPALIVE_S": "1", **env})

    def serves(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=5).is_success
        except httpx.HTTPError:
            return False


class Host(Part):
    """A GPU host of one slot, by the name that jobs know it by."""

    def __init__(self, name: str, folder: Path, redis_url: str, env: Mapping[str, str]) -> None:
        command = [*RANKCAST, "worker", "--tasks", str(TASKS), "--gpus", "none", "--slots", "1"]
        command += ["--redis-url", redis_url, "--host-name", name, "--shared", str(folder / "shared")]
        super().__init__(name, command, folder=folder, env=env)

    def serves(self) -> bool:
        return WORKER_READY in self.told()

    def forkserver(self) -> psutil.Process:
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "multiprocessing.forkserver" in " ".join(process.cmdline()):
                    return process
        raise AssertionError(f"{self.name} has no forkserver")
