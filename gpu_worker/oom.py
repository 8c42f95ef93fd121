"""Step 5. Whether the kernel killed for want of memory: it leaves a count behind, and no other trace.

The count of the worker's own control group is evidence, because its ranks are in there too. The
host's count stands in where there is no such group; it knows of strangers as well.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
FIELD = "oom_kill "


class OomWatch:
    """Tells whether the count rose since `mark`. Where the system keeps none it never does."""

    def __init__(self, counts: Sequence[Path] | None = None) -> None:
        found = candidates(Path("/proc/self/cgroup")) if counts is None else iter(counts)
        self._file = next((path for path in found if _read(path) is not None), None)
        self._marked = 0

    def mark(self) -> None:
        self._marked = self._count()

    def has_risen(self) -> bool:
        return self._count() > self._marked

    def _count(self) -> int:
        return 0 if self._file is None else _read(self._file) or 0


def candidates(groups: Path) -> Iterator[Path]:
    """Files that may hold the count, the nearest first; `groups` lists a process' control groups
    (cgroups(7)), one `number:controllers:path` a line."""
    with contextlib.suppress(OSError):
        for line in groups.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                yield CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control"
            elif not controllers:
                yield CGROUPS / path.lstrip("/") / "memory.events"
    # Inside a container the path may be the host's, and the mount only the container's part of it.
    yield CGROUPS / "memory.events"
    yield CGROUPS / "memory" / "memory.oom_control"
    yield Path("/proc/vmstat")


def _read(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            if line.startswith(FIELD):
                return int(line.removeprefix(FIELD))
    return None
