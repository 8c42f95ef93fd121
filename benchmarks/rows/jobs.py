"""Small jobs on warm slots, over HTTP: how many a second. The task returns the number that it was given."""

from benchmarks.actor import Actor
from benchmarks.measure import Contender, Figure, Row, Sample

JOBS = 400


def _run(actor: Actor) -> Sample:
    reply = actor.ask("jobs", count=JOBS)
    return Sample({"rate": reply["rate"]}, reply["fault"])


def _row(slots: int) -> Row:
    return Row(
        key=f"jobs-{slots}",
        title=f"{JOBS} jobs that do nothing, over HTTP, {slots} warm slot{'s' if slots > 1 else ''}",
        figures=[Figure("rate", "jobs/s", must_of_peer=0.25, aim_of_peer=0.6, is_better_high=True)],
        contenders=[
            Contender("rankcast, POST /jobs", lambda bench: _run(bench.submitter(slots)), is_ours=True),
            Contender("bare Celery, no HTTP, no ranks", lambda bench: _run(bench.celery(slots))),
        ],
        rounds=3,
    )


ROWS = (_row(1), _row(4))
