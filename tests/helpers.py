"""What tests of all kinds share; `from helpers import ...` (pytest's pythonpath has this folder)."""

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import psutil
import redis

from rankcast.tasks import keys
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.state import JobState

T = TypeVar("T")

#: In the environment of everything that a test starts as a command or a worker, so that it can be
#: found wherever it went. Not RANKCAST_*, which the demo takes away from what it starts.
MARK = "TEST_MARK"


def wait_until(predicate: Callable[[], T], description: str, *, timeout_s: float = 10.0) -> T:
    """Return the first true value of `predicate`; fail with `description` after `timeout_s`."""
    give_up = time.monotonic() + timeout_s
    while not (value := predicate()):
        if time.monotonic() > give_up:
            raise AssertionError(f"waited {timeout_s} s in vain: {description}")
        time.sleep(0.01)
    return value


def free_port() -> int:
    """A TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def leaving_no_process() -> Iterator[None]:
    """Fail if a process that was started inside, by this one or below it, is still there a while after."""
    before = _descendants()
    yield
    left = _descendants() - before
    deadline = time.monotonic() + 5
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left &= _descendants()
    told = [_described(process) for process in left]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert not told, f"left running by this test: {told}"


def clean_env(**env: str) -> dict[str, str]:
    """This environment without what it says of another Rankcast, and a mark of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RANKCAST_")}
    # The ranks of several tests share the machine's cores.
    return {**inherited, "OMP_NUM_THREADS": "1", MARK: uuid.uuid4().hex, **env}


def marked(env: Mapping[str, str]) -> list[str]:
    """The living processes with that environment's mark, also those that lost their parent."""
    return [told for process in marked_processes(env) if (told := _described(process))]


def marked_processes(env: Mapping[str, str]) -> list[psutil.Process]:
    """The same, to do something with; some may only wait to be reaped."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == env[MARK]:
                found.append(process)
    return found


def _descendants() -> set[psutil.Process]:
    """Living processes below this one; Python's resource tracker stays for good by design."""
    return {
        process
        for process in psutil.Process().children(recursive=True)
        if (told := _described(process)) and "resource_tracker" not in told
    }


def _described(process: psutil.Process) -> str:
    """Pid and command line; empty for one that is gone or only waits to be reaped."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return f"{process.pid}: {' '.join(process.cmdline())[:200]}"
    except psutil.NoSuchProcess:
        return ""


def inconsistencies(client: redis.Redis) -> list[str]:
    """Where record, indexes and time to live of the jobs in Redis do not agree; one line each."""
    of_jobs = [fault for job_id in _job_ids(client) for fault in _faults(client, job_id)]
    return [*of_jobs, *_faults_of_kept_logs(client)]


def _faults_of_kept_logs(client: redis.Redis) -> Iterator[str]:
    """The sum of what ended jobs keep is what they keep, and each of them has ended or is gone."""
    kept = {job_id: int(size) for job_id, size in client.hgetall(keys.KEPT_BYTES).items()}
    if set(kept) != set(client.zrange(keys.KEPT, 0, -1)):
        yield f"logs of {sorted(kept)} are counted, but the index has {client.zrange(keys.KEPT, 0, -1)}"
    if sum(kept.values()) != int(client.get(keys.KEPT_TOTAL) or 0):
        yield f"the logs kept are {kept}, and their sum is {client.get(keys.KEPT_TOTAL)!r}"
    for job_id in kept:
        state, size = client.hmget(JobKeys(job_id.decode()).record, ["state", "bytes"])
        if state is not None and (not JobState(state.decode()).is_terminal or int(size) != kept[job_id]):
            yield f"job {job_id!r} is {state!r} with {size!r} bytes, and counted with {kept[job_id]}"


def _job_ids(client: redis.Redis) -> Iterator[str]:
    """Every job that has a key, also one without a record."""
    found = {key.decode().split(":")[2] for key in client.scan_iter(f"{keys.PREFIX}job:*")}
    yield from sorted(found)


def _faults(client: redis.Redis, job_id: str) -> Iterator[str]:
    of = JobKeys(job_id)
    names = ["state", "task", "last", "end_id", "once", "owner"]
    state, task, last, end_id, once, owner = client.hmget(of.record, names)
    held = (of.record, of.events, of.marks, of.logs, *([once.decode()] if once else []))
    lasting = [key for key in held if client.ttl(key) == -1]
    if state is None:
        yield from (f"{key} has no record and no time to live" for key in lasting)
        return
    now, name, own = JobState(state.decode()), task.decode(), (owner or b"").decode()
    places = {
        "queued": client.zscore(keys.QUEUED(name), job_id) is not None,
        "claimed": client.zscore(keys.RUNNING, job_id) is not None,
        "ended": client.zscore(keys.ENDED, f"{name} {job_id} {own}".rstrip()) is not None,
    }
    place = "ended" if now.is_terminal else "queued" if now is JobState.QUEUED else "claimed"
    if places != {other: other == place for other in places}:
        yield f"job {job_id} is {now}, but the indexes say {places}"
    if now.is_terminal:
        yield from (f"{key} of an ended job has no time to live" for key in lasting)
    if (end_id == last) != now.is_terminal:
        yield f"job {job_id} is {now}, ends with {end_id!r}, and its last event is {last!r}"
