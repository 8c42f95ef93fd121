"""`rankcast submit --trace`: the way of a job to the client that submits it."""

import json
import time
from typing import Any

import click

from rankcast.cli.options import FAILED, coming_back
from rankcast.cli.trace import show_moments
from rankcast.cli.watch import EXIT_CODES, ending, to_end
from rankcast.cli.way import merged
from rankcast.client import Event, Job


class Seen:
    """When this client got where, in milliseconds since it was about to send the POST: made then."""

    def __init__(self) -> None:
        self._sent_ns = time.monotonic_ns()
        self.moments = {"sent": 0.0}

    def mark(self, name: str) -> None:
        """Each name keeps its first mark."""
        self.moments.setdefault(name, round((time.monotonic_ns() - self._sent_ns) / 1e6, 3))

    def take(self, event: Event) -> None:
        """An event has arrived."""
        self.mark("watching")
        if event.state == "starting":
            # What the record tells is of the newest attempt.
            self.moments.pop("delivered", None)
        elif event.is_result:
            self.mark("delivered")
        elif event.is_end:
            self.mark("end_delivered")


def trace_job(job: Job, seen: Seen, *, is_json: bool) -> int:
    """Wait for the end of the job, and show where its time went; the exit code.

    Its events are not shown: that would take time of its own.
    """
    if not is_json:
        click.echo(f"job {job.id}", err=True)
    with coming_back("watch", job.id):
        end = to_end(job, seen.take)
        way = merged(seen.moments, job.record()["timings"])
    if is_json:
        click.echo(json.dumps({"job_id": job.id, "timings": way.moments, "within_ms": way.within_ms}))
    else:
        show_moments(way.moments)
        click.echo(
            f"\nThe server has a clock of its own: its moments, posted to ended, may all be up to "
            f"{way.within_ms:,.1f} ms earlier or later."
        )
    return _told_end(end)


def _told_end(end: dict[str, Any]) -> int:
    state = str(end["state"])
    if state != "succeeded":
        click.echo("\n".join(ending(state, None, end.get("error") or {})), err=True)
    return EXIT_CODES.get(state, FAILED)
