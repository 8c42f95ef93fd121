"""Step 5. Processes that end with the one that started them.

A kill -9 of a worker must leave nothing behind that holds a GPU. Linux sends a process the signal
it asked for when its parent THREAD ends (prctl(2), PR_SET_PDEATHSIG): the forkserver asks for it,
started from the worker's main thread, and so does each rank.
"""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent(expected_pid: int) -> None:
    """Let this process be killed when its parent ends; exit at once if `expected_pid` is not its parent.

    The check comes after the request: a parent that ended in between is seen by it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != expected_pid:
        os._exit(1)
