"""Becomes another program that dies with the process which asked for it.

    python -I -S tether.py SIGNAL PARENT_PID PROGRAM ARGUMENT…

The kernel sends SIGNAL when the thread that started this one is gone, kill -9 included (prctl(2),
PR_SET_PDEATHSIG; it lasts across exec). Run by path, not with -m, so that it costs the start of a
bare interpreter.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(signum: int, parent: int, argv: list[str]) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signum)
    # Gone before the call took effect: nobody is left to send the signal.
    if os.getppid() != parent:
        sys.exit(f"the process {parent} that asked for {argv[0]} is gone")
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
