"""Who a worker is: an id by which another worker on its host can tell that it has died.

`<host>:<pid>:<origin>-<start>`. The origin is a digest of host name, boot and pid namespace, so that
nobody judges a pid that is not of his own world: another host's, an earlier boot's, a container's.
The start time tells a process from a later one with its pid. To everybody else the id is opaque.
"""

import hashlib
import os
import secrets
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: Fields of /proc/PID/stat behind the command, which may hold anything: proc_pid_stat(5), 3 and 22.
STATE, START_TIME = 0, 19
ENDED = frozenset("ZX")


def own_id(host: str) -> str:
    """The id of this process as a worker on `host`."""
    started = _stat(os.getpid())
    if started is None:
        return f"{host}:{os.getpid()}:{secrets.token_hex(4)}"
    return f"{host}:{os.getpid()}:{_origin(host)}-{started[START_TIME]}"


def has_died(worker_id: str, host: str) -> bool:
    """Whether it is certain that this worker of `host`, this very one, has died. False in all doubt."""
    pid, _, mark = worker_id.removeprefix(f"{host}:").partition(":")
    origin, _, start = mark.partition("-")
    if not start or not pid.isdecimal() or origin != _origin(host):
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        # Somebody else's process now, or a worker of another user: that cannot be told apart.
        return False
    found = _stat(int(pid))
    return found is not None and (found[START_TIME] != start or found[STATE] in ENDED)


def _origin(host: str) -> str:
    try:
        world = f"{host} {BOOT_ID.read_text()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
    return hashlib.sha256(world.encode()).hexdigest()[:8]


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
