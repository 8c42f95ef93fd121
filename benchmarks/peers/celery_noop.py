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
app.conf.update(task_default_queue="bench-noop", broker_connection_retry_on_startup=True)


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


if __name__ == "__main__":
    url = sys.argv[1]
    app.conf.update(broker_url=url, result_backend=url)
    command = ["celery", "-A", "benchmarks.peers.celery_noop", "-b", url, "--result-backend", url]
    options = ["-P", "threads", "-c", "1", "--loglevel", "WARNING", "--without-mingle"]
    with subprocess.Popen([sys.executable, "-m", *command, "worker", *options]) as worker:
        serve([round_trips])
        worker.terminate()
