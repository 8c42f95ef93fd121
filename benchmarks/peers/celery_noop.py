"""Bare Celery over Redis: a task that returns what it was given, and the result backend's answer.

No record, no ranks, no stream, no HTTP: the round trip that any design on Celery starts from. The
actor is the caller; its worker is a stock one with a threads pool, in a process of its own.
"""

import subprocess
import sys
import time

from celery import Celery

from benchmarks.actor import Reply, serve
from benchmarks.payload import Event, fault_of, make_event

app = Celery("noop")
app.conf.update(broker_connection_retry_on_startup=True)


@app.task(name="bench.noop")
def noop(event: Event) -> Event:
    return event


def round_trips(calls: int) -> Reply:
    """From delay() to the result in the caller's hands, `calls` times; milliseconds."""
    waits_ms, events = [], []
    for n in range(calls):
        event = make_event(n, time.monotonic_ns())
        began_ns = time.monotonic_ns()
        events.append(noop.delay(event).get(timeout=30))
        waits_ms.append((time.monotonic_ns() - began_ns) / 1e6)
    return {"ms": waits_ms, "fault": fault_of(events, calls)}


def jobs(count: int) -> Reply:
    """Tasks a second, from before the first delay() to the last result."""
    events = [make_event(n, time.monotonic_ns()) for n in range(count)]
    began = time.monotonic()
    found = [waiting.get(timeout=60) for waiting in [noop.delay(event) for event in events]]
    return {"rate": count / (time.monotonic() - began), "fault": fault_of(found, count)}


if __name__ == "__main__":
    url, slots = sys.argv[1:]
    # Each deployment has a queue of its own.
    app.conf.update(broker_url=url, result_backend=url, task_default_queue=f"bench-noop-{slots}")
    command = ["celery", "-A", "benchmarks.peers.celery_noop", "-b", url, "--result-backend", url]
    options = [
        "-P",
        "threads",
        "-c",
        slots,
        "-Q",
        f"bench-noop-{slots}",
        "--loglevel",
        "WARNING",
        "--without-mingle",
    ]
    with subprocess.Popen([sys.executable, "-m", *command, "worker", *options]) as worker:
        serve([round_trips, jobs])
        worker.terminate()
