"""What is told of a job's record."""

from typing import Any

from rankcast.tasks.job import AttemptRecord, JobOptions, JobRecord
from rankcast.tasks.state import JobState
from rankcast.tasks.summary import figures, timings

MOMENTS = {"started": 1.25, "called": 2.5}


def record(**known: Any) -> JobRecord:
    """Of a job that was created at 1000."""
    given = {"state": JobState.QUEUED, "input": {}, "options": JobOptions(), "created_ms": 1000}
    return JobRecord(job_id="j", task="acme/steps", **(given | known))


def test_timings_begin_with_the_post():
    """All else moves back by what the web tier took of it."""
    assert timings(record(accept_ms=1.5)) == {"posted": 0, "created": 1.5}
    ended = record(
        accept_ms=1.5,
        claimed_ms=1100,
        ended_ms=1103,
        metrics={"queue_ms": 100, "moments_ms": MOMENTS},
    )
    assert list(timings(ended).items()) == [
        ("posted", 0),
        ("created", 1.5),
        ("claimed", 101.5),
        ("started", 102.75),
        ("called", 104),
        ("ended", 104.5),
    ]


def test_timings_of_a_job_without_a_post_begin_where_it_was_created():
    """One of `delay`, say."""
    assert timings(record()) == {"created": 0}
    assert timings(record(ended_ms=1007)) == {"created": 0, "ended": 7}


def test_the_claim_in_timings_is_of_the_newest_attempt():
    """Where no worker has ended the job, that of the history."""
    tries = [AttemptRecord(attempt=number, worker="w", started_ms=1000 + 40 * number) for number in (1, 2)]
    assert timings(record(claimed_ms=1040, attempts=tries)) == {"created": 0, "claimed": 80}


def test_the_end_is_never_before_what_led_to_it():
    """Redis counts whole milliseconds, a worker finer ones."""
    ended = record(claimed_ms=1000, ended_ms=1002, metrics={"queue_ms": 0, "moments_ms": MOMENTS})
    assert timings(ended)["ended"] == 2.5


def test_moments_are_told_once():
    """In the timings, from where all of a job's way counts, and not among its figures, from the claim."""
    ended = record(claimed_ms=1000, metrics={"queue_ms": 0, "moments_ms": MOMENTS})
    assert timings(ended).keys() >= MOMENTS.keys()
    assert figures(ended) == {"queue_ms": 0}
