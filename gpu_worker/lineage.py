"""Step 5. Processes that end with the one that started them.

A kill -9 of a worker must leave nothing behind that holds a GPU. Linux sends a process the signal
it asked for when its parent THREAD ends (prctl(2), PR_SET_PDEATHSIG): the forkserver asks for it,
started from the worker's main thread, and so does each rank. What a rank starts does not ask; a
guard beside the rank does, and ends all of it.
"""

import ctypes
import os
import signal
from typing import NoReturn

_PR_SET_PDEATHSIG = 1


def die_with_parent(expected_pid: int) -> None:
    """Let this process be killed when its parent ends; exit at once if `expected_pid` is not its parent."""
    _ask_for(signal.SIGKILL)
    # After the request: a parent that ended in between is seen here.
    if os.getppid() != expected_pid:
        os._exit(1)


def take_group_along() -> None:
    """Let the process group of this process, which leads it, be killed when this process ends.

    A process of its own waits for that, because SIGKILL leaves a rank no time to do it. Call it from
    the main thread, before there are others.
    """
    leader = os.getpid()
    if os.fork() == 0:
        _guard(leader)


def _guard(leader: int) -> NoReturn:
    try:
        # Nothing that comes from outside may be taken for the leader's end.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        # The other ends of pipes tell others that the leader is gone.
        os.closerange(0, os.sysconf("SC_OPEN_MAX"))
        _ask_for(signal.SIGRTMIN)
        while os.getppid() == leader:
            signal.sigwait({signal.SIGRTMIN})
        # It is in that group itself, so the number cannot be anybody else's by now.
        os.killpg(leader, signal.SIGKILL)
    finally:
        os._exit(1)


def _ask_for(signum: int) -> None:
    """Have the kernel send this signal when the parent ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signum) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
