"""More than a web process can take: everybody comes back at the same moment, or no file is left to open."""

import contextlib
import os
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from helpers import wait_until
from jobs import SUCCESS, append, ids, running
from web_tier import BOTH_WAYS, Watch, WebTier, web_tier

from rankcast.tasks.catalog import TaskInfo
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Claim
from rankcast.tasks.store import JobStore

VIEWERS = 300


def stream_until(enough: threading.Event, store: JobStore, event_log: EventLog, claim: Claim) -> None:
    seq = 1
    while not enough.wait(0.01):
        seq = append(event_log, claim, seq + 1, str(seq), str(seq)).last
    store.finish(claim, SUCCESS, seq)


def test_a_crowd_that_is_cut_off_at_once_resumes_at_once(
    valkey_url: str, web: str, store: JobStore, event_log: EventLog
) -> None:
    """They do not even wait as they were asked to: nobody gets a 5xx, everybody sees the whole log."""
    claim, enough = running(store), threading.Event()
    path = f"/jobs/{claim.job_id}/stream"
    streaming = threading.Thread(target=stream_until, args=(enough, store, event_log, claim))
    with web_tier(valkey_url) as leaving, ThreadPoolExecutor(VIEWERS) as viewers:
        before = list(viewers.map(lambda _: Watch(leaving.url, path), range(VIEWERS)))
        for watch in before:
            watch.until(2)
        streaming.start()
        leaving.process.terminate()
        for watch in before:
            watch.to_end()
        cursors = [watch.ids[-1] for watch in before]
        after = list(viewers.map(lambda last: Watch(web, path, headers={"Last-Event-ID": last}), cursors))
    enough.set()
    streaming.join(30)
    for watch in after:
        watch.to_end()
    assert {watch.status for watch in after} == {200}
    whole = ids(event_log, claim.job_id)
    assert [first.ids + second.ids for first, second in zip(before, after, strict=True)] == [whole] * VIEWERS
    farewells = {watch.raw.rpartition(b"\n\n")[2].replace(b":\n", b"") for watch in before}
    assert all(farewell.startswith(b"retry: ") for farewell in farewells)
    assert len(farewells) > VIEWERS / 2, "they were all asked to come back at the same moment"


def first_free(pid: int) -> int:
    """The descriptor that the process gets next; those that are open may leave holes."""
    held = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number in range(len(held) + 1) if number not in held)


@contextlib.contextmanager
def no_file_left(web: WebTier) -> Iterator[None]:
    """Its processes have as many files open as they may, until the end of the block."""
    held = [(each.pid, resource.prlimit(each.pid, resource.RLIMIT_NOFILE)) for each in workers(web)]
    for each in workers(web):
        hard = resource.prlimit(each.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(each.pid, resource.RLIMIT_NOFILE, (first_free(each.pid), hard))
    try:
        yield
    finally:
        for pid, limits in held:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def workers(web: WebTier) -> list[psutil.Process]:
    return psutil.Process(web.process.pid).children()


def status_of(url: str) -> int | None:
    """None where nobody answered."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, timeout=2).status_code
    return None


def sockets_held_twice(web: WebTier) -> int:
    """As that of a stream is for a moment, while it is taken over; and the one that listens, for good."""
    count = 0
    for each in workers(web):
        sockets = []
        for entry in Path(f"/proc/{each.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                sockets.append(os.readlink(entry))
        sockets = [each for each in sockets if each.startswith("socket:")]
        count += len(sockets) - len(set(sockets))
    return count


@pytest.mark.parametrize("way", BOTH_WAYS)
def test_a_process_without_a_file_left_serves_its_streams_and_recovers(
    way: str, valkey_url: str, task: TaskInfo, store: JobStore, event_log: EventLog
) -> None:
    """Who comes is not answered, or gets 503; nobody gets a 500, and no process ends for it."""
    claim = running(store)
    with web_tier(valkey_url, RANKCAST_TAKE_OVER=way) as web:
        before = sockets_held_twice(web)
        watch = Watch(web.url, f"/jobs/{claim.job_id}/stream")
        watch.until(2)
        append(event_log, claim, 2, '"before it"')
        watch.until(3)
        wait_until(lambda: sockets_held_twice(web) == before, "one descriptor for the stream")
        pids = [each.pid for each in workers(web)]
        with no_file_left(web), ThreadPoolExecutor(20) as clients:
            answers = list(clients.map(status_of, [f"{web.url}/jobs/{claim.job_id}"] * 20))
            append(event_log, claim, 3, '"in the middle of it"')
            watch.until(4)
        assert set(answers) <= {200, 503, None}
        assert None in answers or 503 in answers, "there was no lack of files"
        wait_until(lambda: status_of(f"{web.url}/jobs/{claim.job_id}") == 200, "an answer", timeout_s=30)
        assert [each.pid for each in workers(web)] == pids
        again = Watch(web.url, f"/jobs/{claim.job_id}/stream")
        store.finish(claim, SUCCESS, 3)
        for each in (watch, again):
            each.to_end()
            assert each.ids == ids(event_log, claim.job_id)
