"""What viewers that do not read cost a web process: memory, the other viewers' time, the publisher's time.

    python benchmarks/stalled.py [--viewers 500] [--megabytes 40]

`measure()` returns the figures. One running job streams so many megabytes to viewers whose receive buffer is
4 KiB and who never read, and to one who reads; then a few of the stalled ones read after all, and must have
everything once and in order. valkey and `rankcast web` are real processes; this one is the rank 0.
"""

import http.client
import itertools
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click
import psutil

# Run as a file, Python puts this folder on the path; the package is imported from its parent.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.system import System
from rankcast.tasks.connect import connect
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Claim, JobOptions, Outcome, new_token
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore

TASK = "bench/stalled"
EVENT_BYTES = 1000
BATCH = 50
RECEIVE_BUFFER_BYTES = 4096
#: Stalled viewers that read after all.
READ_LATE = 3
WAIT_S = 120.0
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Memory in MiB; times in ms. `fault`: what was wrong with a transcript, "" for nothing."""

    viewers: int
    megabytes: int
    #: RSS of the web process: nobody watches, all are connected, all are stalled.
    rss_alone: float
    rss_connected: float
    rss_stalled: float
    #: What the kernel holds for all TCP connections of this machine, more than before.
    kernel: float
    append_p50_ms: float
    append_p99_ms: float
    fault: str

    @property
    def growth(self) -> float:
        return self.rss_stalled - self.rss_alone


def measure(viewers: int = 500, megabytes: int = 40) -> Figures:
    """One run; about half a minute. RuntimeError if the web tier does not start."""
    with ExitStack() as running:
        logs = Path(running.enter_context(tempfile.TemporaryDirectory()))
        # The stalled ones are to stay for the whole run, however slow the machine is.
        system = running.enter_context(System(logs, has_worker=False, RANKCAST_SEND_TIMEOUT_S="600"))
        settings = Settings(redis_url=system.redis_url, broker_url=system.redis_url)
        client = running.enter_context(connect(system.redis_url))
        store, log = JobStore(client, settings), EventLog(client, settings)
        web = psutil.Process(system.processes["web"].pid)
        # The first viewer of a process pays for what all of them share.
        warm = _running(store)
        warmed = Quick(system.port, warm.job_id)
        _stream(store, log, warm, events=20 * BATCH)
        warmed.wait()

        claim = _running(store)
        alone, kernel_before = _rss(web), _kernel_bytes()
        stalled = [running.enter_context(_viewer(system.port, claim.job_id)) for _ in range(viewers)]
        for each in stalled:
            each.recv(1, socket.MSG_PEEK)
        connected = _rss(web)
        quick = Quick(system.port, claim.job_id)
        events = megabytes * 1_000_000 // EVENT_BYTES
        appends_ms = _stream(store, log, claim, events)
        quick.wait()
        rss, kernel = _rss(web), _kernel_bytes()
        faults = [quick.fault(events), *(_read_late(each, events) for each in stalled[:READ_LATE])]
    return Figures(
        viewers=viewers,
        megabytes=megabytes,
        rss_alone=alone / MIB,
        rss_connected=connected / MIB,
        rss_stalled=rss / MIB,
        kernel=(kernel - kernel_before) / MIB,
        append_p50_ms=statistics.median(appends_ms),
        append_p99_ms=statistics.quantiles(appends_ms, n=100)[98],
        fault="; ".join(filter(None, faults)),
    )


def _running(store: JobStore) -> Claim:
    job_id = store.create(task=TASK, input=b"{}", options=JobOptions()).job_id
    claim = store.claim(task=TASK, token=new_token(), worker="bench", job_id=job_id, is_warm=True)
    assert claim is not None
    store.start(claim)
    return claim


def _stream(store: JobStore, log: EventLog, claim: Claim, events: int) -> list[float]:
    """What a rank 0 does, as fast as the log takes it; returns the time of each append in ms."""
    took_ms = []
    pad = b"x" * (EVENT_BYTES - 20)
    for first in range(0, events, BATCH):
        batch = [("", b'{"n":%d,"pad":"%b"}' % (n, pad)) for n in range(first, first + BATCH)]
        began = time.monotonic()
        log.append(job_id=claim.job_id, fence=claim.fence, token=claim.token, first=2 + first, events=batch)
        took_ms.append(1000 * (time.monotonic() - began))
        store.renew([claim])
    store.finish(claim, Outcome(state=JobState.SUCCEEDED, output=b"{}"), 1 + events)
    return took_ms


def _viewer(port: int, job_id: str) -> socket.socket:
    """Has asked for the stream, and does not read."""
    viewer = socket.socket()
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    viewer.settimeout(WAIT_S)
    viewer.connect(("127.0.0.1", port))
    viewer.sendall(f"GET /jobs/{job_id}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return viewer


class Quick:
    """A viewer that reads all the time, in a thread of its own."""

    def __init__(self, port: int, job_id: str) -> None:
        self._socket = _viewer(port, job_id)
        self._raw = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        self._raw = _read_to_end(self._socket)

    def wait(self) -> None:
        self._thread.join(WAIT_S)
        self._socket.close()

    def fault(self, events: int) -> str:
        return _fault(self._raw, events)


def _read_late(viewer: socket.socket, events: int) -> str:
    # What it has not read would come through a buffer of 4 KiB.
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
    return _fault(_read_to_end(viewer), events)


def _read_to_end(viewer: socket.socket) -> bytes:
    """The body of a response; less where it breaks off."""
    response, body = http.client.HTTPResponse(viewer), bytearray()
    try:
        response.begin()
        while data := response.read1(MIB):
            body += data
    except (OSError, http.client.HTTPException) as error:
        print(f"a viewer broke off: {error}", file=sys.stderr)
    finally:
        response.close()
    return bytes(body)


def _fault(raw: bytes, events: int) -> str:
    """Empty if every event is there once and in order."""
    seen = [int(part.partition(b",")[0]) for part in raw.split(b'data: {"n":')[1:]]
    if seen == list(range(events)):
        return ""
    wrong = next((n for n, (a, b) in enumerate(itertools.pairwise(seen)) if b != a + 1), len(seen))
    return f"{len(seen)} of {events} events, wrong after {wrong}"


def _rss(web: psutil.Process) -> int:
    """Of `rankcast web` and all below it."""
    return sum(process.memory_info().rss for process in [web, *web.children(recursive=True)])


def _kernel_bytes() -> int:
    """Memory in TCP buffers; 0 where the kernel does not tell."""
    try:
        words = Path("/proc/net/sockstat").read_text().split("TCP:")[1].split()
    except (OSError, IndexError):
        return 0
    return int(words[words.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE")


@click.command()
@click.option("--viewers", type=click.IntRange(1), default=500, show_default=True)
@click.option("--megabytes", type=click.IntRange(1, 60), default=40, show_default=True)
def main(viewers: int, megabytes: int) -> None:
    """Print what so many stalled viewers cost; code 1 if a transcript was wrong."""
    found = measure(viewers, megabytes)
    print(f"{found.viewers} stalled viewers of a job that streams {found.megabytes} MB")
    print(f"web RSS, MiB: {found.rss_alone:.1f} alone, {found.rss_connected:.1f} all connected, ", end="")
    print(f"{found.rss_stalled:.1f} all stalled: {found.growth:+.1f}")
    print(f"kernel TCP buffers, MiB: {found.kernel:+.1f}")
    print(f"append, ms: p50 {found.append_p50_ms:.2f}, p99 {found.append_p99_ms:.2f}")
    print(f"transcripts: {found.fault or 'every event once, in order'}")
    sys.exit(1 if found.fault else 0)


if __name__ == "__main__":
    main()
