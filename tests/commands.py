"""`rankcast` as a process; `from commands import rankcast, Up`."""

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from helpers import clean_env, marked, wait_until

#: The arguments of a Python that make it the command.
RANKCAST_ARGS = ("-P", "-m", "rankcast.cli")
RANKCAST = (sys.executable, *RANKCAST_ARGS)
ROOT = Path(__file__).parents[1]
STEPS = ROOT / "examples" / "steps.py"


def rankcast(*args: Any, input: str | None = None, cwd: Path | None = None, **env: str) -> Any:
    """Run a command to its end; stdout and stderr as text."""
    return subprocess.run(
        [*RANKCAST, *map(str, args)],
        env=clean_env(**env),
        input=input,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Running:
    """A command that goes on; use as a context manager, which kills it if it is still there."""

    def __init__(
        self, *args: Any, cwd: Path | None = None, python: Path | str = sys.executable, **env: str
    ) -> None:
        self.env = clean_env(**env)
        self.out: list[str] = []
        self.err: list[str] = []
        self.process = subprocess.Popen(
            [python, *RANKCAST_ARGS, *map(str, args)],
            env=self.env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        pipes = ((self.process.stdout, self.out), (self.process.stderr, self.err))
        self._readers = [threading.Thread(target=_copy, args=pair, daemon=True) for pair in pipes]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.wait()

    def says(self, words: str, *, timeout_s: float = 60) -> str:
        """Wait for a line with these words on stdout or stderr; the line."""

        def found() -> str | None:
            line = next((line for line in [*self.out, *self.err] if words in line), None)
            assert line is not None or self.process.poll() is None, self.told
            return line

        return wait_until(found, f"{words!r}", timeout_s=timeout_s) or ""

    def stop(self, signum: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(signum)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(30)
        for reader in self._readers:
            reader.join(10)
        return code

    @property
    def told(self) -> str:
        return "".join([*self.out, *self.err])

    @property
    def left(self) -> list[str]:
        """What it started and is still alive."""
        return marked(self.env)


class Up(Running):
    """`rankcast up` on a free port."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__("up", "--port", "0", *args, **options)

    @property
    def url(self) -> str:
        """Its address, once it is up."""
        line = self.says("rankcast is up")
        match = re.search(r"https?://\S+", line)
        assert match is not None, line
        return match[0]


def _copy(pipe: Any, lines: list[str]) -> None:
    with pipe:
        for line in pipe:
            lines.append(line)
