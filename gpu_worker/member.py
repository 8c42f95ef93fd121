"""Step 5. One rank as its parent sees it: a process, a pipe, and what it prints."""

import contextlib
import os
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, Self

from rankcast.gpu_worker.child import Child
from rankcast.gpu_worker.messages import Done, Failed, Heartbeat, Message, Ready
from rankcast.gpu_worker.pipe import NonBlockingEnd
from rankcast.gpu_worker.ranklog import Lines

_READ_BYTES = 64 * 1024
#: A pipe holds a megabyte at most. Who writes on and on must not hold up what waits for this.
_MAX_READS = 16


class Listener(Protocol):
    """Whom a member tells what its rank does."""

    def on_message(self, member: "Member", message: Message) -> None: ...

    def on_end(self, member: "Member", exitcode: int | None) -> None: ...

    def on_line(self, rank: int, stream: str, text: str) -> None: ...


class Member:
    """One rank. Everything happens in the thread that selects on `selector`."""

    def __init__(
        self,
        rank: int,
        child: Child,
        sock: socket.socket,
        outputs: dict[int, str],
        selector: selectors.BaseSelector,
        listener: Listener,
    ) -> None:
        self.rank = rank
        #: Its answer to what it was last asked.
        self.report: Ready | Done | Failed | None = None
        self.has_ended = False
        #: Its pipe is closed: known a moment before its end is.
        self.has_hung_up = False
        #: When it last said anything, on time.monotonic's clock.
        self.heard_s = time.monotonic()
        #: How long its call had shown no progress then.
        self.quiet_s = 0.0
        self._child = child
        self._pipe = NonBlockingEnd(sock)
        self._outputs = outputs
        self._lines = {stream: Lines() for stream in outputs.values()}
        self._selector = selector
        self._listener = listener
        self._watch(child, lambda mask: self._read_end())
        self._watch(self._pipe, self._on_pipe)
        for fd in outputs:
            os.set_blocking(fd, False)
            self._watch(fd, partial(self._on_output, fd))

    @classmethod
    def bear(
        cls,
        rank: int,
        fork: Callable[[Sequence[int]], Child],
        selector: selectors.BaseSelector,
        listener: Listener,
    ) -> Self:
        """Start the rank's process, which waits for its Start; `fork` makes it, with its pipe and outputs.
        ForkServerLost."""
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            sock, their_sock = socket.socketpair()
            ours.callback(sock.close)
            theirs.callback(their_sock.close)
            outputs: dict[int, str] = {}
            fds = [their_sock.fileno()]
            for stream in ("stdout", "stderr"):
                read_fd, write_fd = os.pipe()
                ours.callback(os.close, read_fd)
                theirs.callback(os.close, write_fd)
                outputs[read_fd] = stream
                fds.append(write_fd)
            child = fork(fds)
            ours.pop_all()
        return cls(rank, child, sock, outputs, selector, listener)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_stopped(self) -> bool:
        return self._child.is_stopped()

    def send(self, framed: bytes) -> None:
        self._pipe.send(framed)
        if self._pipe.has_unsent:
            self._selector.modify(self._pipe, selectors.EVENT_READ | selectors.EVENT_WRITE, self._on_pipe)

    def read_output(self) -> None:
        """Pass on all that it has written by now, an unfinished line included."""
        for fd, stream in list(self._outputs.items()):
            for _ in range(_MAX_READS):
                if not self._read_output(fd):
                    break
            for line in self._lines[stream].end():
                self._listener.on_line(self.rank, stream, line)

    def kill(self) -> None:
        """SIGKILL to it and to what it started."""
        if self.has_ended:
            self._child.kill_group()
        else:
            self._child.kill()

    def wait(self, timeout_s: float) -> bool:
        """Whether it is gone, or goes within `timeout_s`."""
        return self._child.wait(timeout_s)

    def close(self) -> None:
        """Pass on its last words and let go of it. It must be gone, or is given up."""
        self.read_output()
        for fd in list(self._outputs):
            self._drop_output(fd)
        self._unwatch(self._pipe)
        self._pipe.close()
        self._unwatch(self._child)
        self._child.close()

    def _on_pipe(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._pipe.flush()
            if not self._pipe.has_unsent:
                self._selector.modify(self._pipe, selectors.EVENT_READ, self._on_pipe)
        if mask & selectors.EVENT_READ:
            self._read_pipe()

    def _read_pipe(self) -> None:
        try:
            messages, is_closed = self._pipe.receive()
        except (ValueError, KeyError, TypeError) as error:
            messages = [Failed("group_lost", "", f"rank {self.rank} sent what is no message: {error}", "")]
            is_closed = True
        for message in messages:
            self.heard_s = time.monotonic()
            if isinstance(message, Ready | Done | Failed):
                self.report = message
            elif isinstance(message, Heartbeat):
                self.quiet_s = message.quiet_s
            self._listener.on_message(self, message)
        if is_closed and not self.has_ended:
            # It is ending, or it closed what is not its own and can say nothing any more.
            self.has_hung_up = True
            self._unwatch(self._pipe)
            self._child.kill()

    def _read_end(self) -> None:
        self._unwatch(self._child)
        # Its last message may have come in the same moment.
        self._read_pipe()
        self.has_ended = True
        self._child.kill_group()
        self._listener.on_end(self, self._child.exitcode())

    def _on_output(self, fd: int, mask: int) -> None:
        self._read_output(fd)

    def _read_output(self, fd: int) -> bool:
        """Whether there was something."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._drop_output(fd)
            return False
        stream = self._outputs[fd]
        for line in self._lines[stream].feed(data):
            self._listener.on_line(self.rank, stream, line)
        return True

    def _drop_output(self, fd: int) -> None:
        if self._outputs.pop(fd, None):
            self._unwatch(fd)
            os.close(fd)

    def _watch(self, what: object, handler: Callable[[int], object]) -> None:
        self._selector.register(what, selectors.EVENT_READ, handler)  # type: ignore[arg-type]

    def _unwatch(self, what: object) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(what)  # type: ignore[arg-type]
