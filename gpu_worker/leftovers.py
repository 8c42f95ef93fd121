"""Step 6. Which threads a call left behind: what they still cast is no part of the next job.

A thread does not know which call it works for, so it is told from outside: what works at the end of
a call, and did not at its beginning, was put to work by that call. A thread of a pool that waits for
its next piece of work belongs to nobody.
"""

import sys
import threading
from concurrent.futures import thread as pool_threads

#: Where a thread of a ThreadPoolExecutor is when it has nothing to do: it waits in C, right below this.
_WAITS_FOR_WORK = pool_threads._worker.__code__


class LeftOvers:
    """Threads that outlived the call which put them to work."""

    def __init__(self) -> None:
        self._at_work: set[threading.Thread] = set()
        self._left: set[threading.Thread] = set()

    def begin(self) -> None:
        """A call begins. Pool threads that have finished meanwhile are free for it."""
        self._at_work = _at_work()
        self._left &= self._at_work

    def end(self) -> None:
        """The call that began last has ended."""
        self._left |= _at_work() - self._at_work

    def has_this_thread(self) -> bool:
        """Whether the calling thread is one of them."""
        return threading.current_thread() in self._left


def _at_work() -> set[threading.Thread]:
    frames = sys._current_frames()
    return {
        thread
        for thread in threading.enumerate()
        if thread.ident in frames and frames[thread.ident].f_code is not _WAITS_FOR_WORK
    }
