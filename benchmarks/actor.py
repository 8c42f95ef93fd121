"""A process that obeys: one JSON line asks, one JSON line answers.

Every contender runs in a process of its own and is asked the same questions in turn, so that peers
with other environments, event loops and forks can be measured interleaved. Both halves are here;
standard library only, because the serving half runs inside the peers' own environments.

The conversation has its own socket: what the process and its children print goes to its log.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
#: File descriptor of the conversation, for the serving half.
ACTOR_FD = "RANKCAST_BENCH_FD"
ANSWER_WITHIN_S = 180.0

Reply = dict[str, Any]


class ActorFailed(RuntimeError):
    """The process raised, ended or did not answer; the message has the end of its log."""


class Actor:
    """The asking half. `python` may be another environment's interpreter."""

    def __init__(
        self,
        module: str,
        *args: str,
        log: Path,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
    ) -> None:
        ours, theirs = socket.socketpair()
        self._log = log
        with theirs, log.open("wb") as out:
            self.process = subprocess.Popen(
                [python, "-m", module, *args],
                env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {}), ACTOR_FD: str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        ours.settimeout(ANSWER_WITHIN_S)
        self._socket = ours
        self._lines = ours.makefile("rb")

    def ask(self, what: str, **arguments: Any) -> Reply:
        """Call `what` over there; ActorFailed if it raised or is gone."""
        self.begin(what, **arguments)
        return self.answer()

    def begin(self, what: str, **arguments: Any) -> None:
        """Call `what` without waiting; `answer` must follow."""
        self._socket.sendall(json.dumps([what, arguments]).encode() + b"\n")

    def answer(self) -> Reply:
        """What the call begun last returned."""
        try:
            line = self._lines.readline()
        except OSError as error:
            raise self._failed(str(error)) from error
        reply: Reply = json.loads(line) if line else {"error": "it ended"}
        if "error" in reply:
            raise self._failed(reply["error"])
        return reply

    def close(self) -> None:
        """End it: EOF first, then a kill if that is not heard."""
        self._lines.close()
        self._socket.close()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _failed(self, why: str) -> ActorFailed:
        tail = self._log.read_text(errors="replace")[-2000:]
        return ActorFailed(f"{self._log.stem}: {why}\n{tail}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()


def serve(calls: Sequence[Callable[..., Reply]]) -> None:
    """The obeying half: answer by function name until the asker hangs up."""
    by_name = {call.__name__: call for call in calls}
    with socket.socket(fileno=int(os.environ.pop(ACTOR_FD))) as conversation:
        conversation.set_inheritable(False)
        for line in conversation.makefile("rb"):
            what, arguments = json.loads(line)
            try:
                reply = by_name[what](**arguments)
            except Exception as error:
                reply = {"error": f"{type(error).__name__}: {error}"}
            conversation.sendall(json.dumps(reply).encode() + b"\n")
