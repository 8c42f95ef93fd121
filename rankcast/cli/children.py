"""The processes that `rankcast up` starts: each tethered, watched, and ended with all it started.

Everything that happens to them comes through one queue, in order, so that whoever runs them waits
for events and never looks around.
"""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

TETHER = Path(__file__).with_name("tether.py")

#: Last lines of a child that are shown when it ends by itself.
TAIL_LINES = 20
#: The last lines of an ended child may still be on their way through its pipe, which a grandchild
#: may hold open: so long they are waited for.
PIPE_S = 1.0


@dataclass(eq=False)
class Child:
    """One running process, leader of a session of its own, so that Ctrl-C does not reach it."""

    name: str
    process: subprocess.Popen[bytes]
    #: Its lines are kept, but not for the screen.
    is_quiet: bool
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    #: Set by the thread that reads its output, when all has been read.
    is_read: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Said:
    """A child wrote a line."""

    child: Child
    line: str


@dataclass(frozen=True)
class Ended:
    """A child is gone, and with it all that was left of its process group."""

    child: Child
    returncode: int

    def __str__(self) -> str:
        if self.returncode < 0:
            return f"{self.child.name} was ended by {signal.Signals(-self.returncode).name}"
        return f"{self.child.name} ended with exit code {self.returncode}"


@dataclass(frozen=True)
class Answered:
    """A request that was waiting for a child came back; `problem` is "" if the answer was good."""

    problem: str


@dataclass(frozen=True)
class Asked:
    """Somebody wants all of this to stop."""

    signum: int


Happening = Said | Ended | Answered | Asked


class Children:
    """Starts children and ends them. Use from the main thread: a child dies with the thread it came from."""

    def __init__(self) -> None:
        # SimpleQueue, because a signal handler puts into it: queue.Queue would wait for its own lock.
        self.happenings: SimpleQueue[Happening] = SimpleQueue()
        self.alive: list[Child] = []

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        death_signal: signal.Signals,
        stdin: str = "",
        pass_fds: Sequence[int] = (),
        is_quiet: bool = False,
    ) -> Child:
        """Start `argv`, which gets `death_signal` when this process is gone for whatever reason."""
        tether = [sys.executable, "-I", "-S", str(TETHER), str(int(death_signal)), str(os.getpid())]
        process = subprocess.Popen(
            [*tether, *argv],
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(stdin.encode())
        child = Child(name, process, is_quiet)
        self.alive.append(child)
        for work in (self._read, self._reap):
            threading.Thread(target=work, args=[child], name=f"{name}{work.__name__}", daemon=True).start()
        return child

    def next(self, timeout_s: float | None = None) -> Happening | None:
        """The next thing that happens; None if nothing does for `timeout_s`."""
        try:
            happening = self.happenings.get(timeout=timeout_s)
        except Empty:
            return None
        if isinstance(happening, Ended):
            self.alive.remove(happening.child)
        return happening

    def signal(self, child: Child, signum: signal.Signals, *, is_group: bool = False) -> None:
        """Send a signal to the child, or to all of its process group."""
        try:
            (os.killpg if is_group else os.kill)(child.process.pid, signum)
        except ProcessLookupError:
            return  # It ended in the same moment; `Ended` is on its way.

    def kill_all(self) -> None:
        """SIGKILL to every group that is left, and wait until they are gone."""
        for child in self.alive:
            self.signal(child, signal.SIGKILL, is_group=True)
        while self.alive:
            self.next()

    def _read(self, child: Child) -> None:
        assert child.process.stdout is not None
        with child.process.stdout as pipe:
            for raw in pipe:
                line = raw.decode("utf-8", "replace").rstrip()
                child.tail.append(line)
                self.happenings.put(Said(child, line))
        child.is_read.set()

    def _reap(self, child: Child) -> None:
        # The dead leader is not reaped yet, so that its number, which is the group's too, cannot
        # belong to anybody else when the rest of the group is killed.
        os.waitid(os.P_PID, child.process.pid, os.WEXITED | os.WNOWAIT)
        self.signal(child, signal.SIGKILL, is_group=True)
        child.is_read.wait(PIPE_S)
        self.happenings.put(Ended(child, child.process.wait()))
