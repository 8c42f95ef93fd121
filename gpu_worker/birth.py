"""Step 5. What the forkserver's child does first.

multiprocessing's forkserver unpickles an object in the child and calls its `_bootstrap`. Its own
Process does so much more (it imports the parent's `__main__`, which may be all of Celery, and puts
the parent's `sys.path` back) that a start would take twenty times as long; this object does what a
rank needs. The pickle holds nothing but the fields below, and goes from a worker to its own child.
"""

import importlib
import os
import sys
from dataclasses import dataclass
from multiprocessing import forkserver

from rankcast.gpu_worker.lineage import die_with_parent, take_group_along

#: The forkserver's pid, in its own environment and so in that of all its children.
SERVER_PID = "RANKCAST_FORKSERVER_PID"


@dataclass(frozen=True, slots=True)
class Birth:
    """A child that runs `main(fds)` of `module` in a session of its own.

    `sys_path` is set for a fresh interpreter: the child then replaces itself by one, because what
    the forkserver imported cannot live in a fork.
    """

    module: str
    sys_path: tuple[str, ...] | None = None

    def _bootstrap(self, parent_sentinel: int) -> int:
        """The exit code of the child. Called by multiprocessing.spawn._main."""
        os.close(parent_sentinel)
        die_with_parent(int(os.environ[SERVER_PID]))
        # The whole session can then be killed at once, data loaders and all.
        os.setsid()
        take_group_along()
        fds = tuple(forkserver.get_inherited_fds() or ())
        if self.sys_path is not None:
            self._become_fresh(fds)
        for fd in fds:
            os.set_inheritable(fd, False)
        code: int = importlib.import_module(self.module).main(fds)
        return code

    def _become_fresh(self, fds: tuple[int, ...]) -> None:
        """Exec an interpreter that calls the same `main`. The exec keeps PDEATHSIG and the session."""
        for fd in fds:
            os.set_inheritable(fd, True)
        code = (
            f"import os, sys; sys.path[:] = {list(self.sys_path or ())!r}; "
            f"from {self.module} import main; os._exit(main({fds!r}))"
        )
        os.execv(sys.executable, [sys.executable, "-P", "-c", code])
