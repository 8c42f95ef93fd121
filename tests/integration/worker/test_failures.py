"""Whatever a rank does, the job ends once, its error says who and what, and the next job runs."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import orjson
import psutil
import pytest
from helpers import wait_until
from workers import Site, Worker, worker

from rankcast.tasks.event import END
from rankcast.tasks.job import JobRecord
from rankcast.tasks.state import JobState


@pytest.fixture(scope="module")
def host(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with worker(site.url, "failing.py", folder=tmp_path_factory.mktemp("host")) as started:
        yield started


def ended_once(site: Site, job_id: str) -> JobRecord:
    """The record of a job that failed: its one end event is the last, and says what the record says."""
    record = site.wait_ended(job_id)
    assert record.state is JobState.FAILED
    events = site.events(job_id)
    assert [event.kind for event in events].count(END) == 1
    assert events[-1].kind == END
    told: dict[str, Any] = orjson.loads(events[-1].data)
    assert told == {"state": "failed", "attempt": record.attempt, "error": record.error}
    return record


@pytest.mark.parametrize(
    ("input", "error"),
    [
        (
            {"way": "raise"},
            {"kind": "exception", "rank": 1, "type": "ValueError", "message": "boom on rank 1"},
        ),
        (
            {"way": "raise", "on_rank": 0},
            {"kind": "exception", "rank": 0, "type": "ValueError", "message": "boom on rank 0"},
        ),
        ({"way": "raise_everywhere"}, {"kind": "exception", "type": "ValueError"}),
        ({"way": "exit"}, {"kind": "exited", "rank": 1, "exitcode": 7}),
        ({"way": "exit", "on_rank": 0}, {"kind": "exited", "rank": 0, "exitcode": 7}),
        ({"way": "kill"}, {"kind": "group_lost", "rank": 1, "signal": "SIGKILL"}),
        ({"way": "kill", "on_rank": 0}, {"kind": "group_lost", "rank": 0, "signal": "SIGKILL"}),
        ({"way": "return_object"}, {"kind": "not_encodable", "rank": 0}),
        ({"way": "too_long"}, {"kind": "run_timeout", "message": "it ran longer than 1 s"}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if "way" in value else "",
)
def test_a_failed_job_says_who_failed_and_how(
    site: Site, host: Worker, input: dict[str, Any], error: dict[str, Any]
):
    """While its peer sits in a collective; and the next job on that slot works."""
    job_id = site.submit("acme/fails", input, timeout_s=1 if input["way"] == "too_long" else None)
    record = ended_once(site, job_id)
    assert record.error is not None
    assert {name: record.error.get(name) for name in error} == error
    after = site.submit("acme/fails", {"way": "none"})
    assert site.wait_ended(after).state is JobState.SUCCEEDED


def test_what_was_streamed_before_a_failure_is_kept(site: Site, host: Worker):
    """An event that was accepted is in the log before the end, however the job ends."""
    job_id = site.submit("acme/fails", {"way": "raise"})
    ended_once(site, job_id)
    assert {"before": "raise"} in [orjson.loads(event.data) for event in site.events(job_id)]


def test_a_failure_brings_the_users_traceback(site: Site, host: Worker):
    """With the line of the user's file."""
    record = ended_once(site, site.submit("acme/fails", {"way": "raise"}))
    assert record.error is not None
    assert "failing.py" in record.error["traceback"]
    assert "ValueError: boom on rank 1" in record.error["traceback"]


def test_a_group_that_cannot_be_set_up_fails_its_job(site: Site, host: Worker):
    """And what it printed is in the job's logs; other tasks of the worker go on."""
    job_id = site.submit("acme/unready")
    record = ended_once(site, job_id)
    assert record.error is not None
    assert (record.error["kind"], record.error["type"]) == ("setup_failed", "FileNotFoundError")
    assert "looking for weights" in [line.text for _, line in site.logs.read(job_id)]
    assert site.wait_ended(site.submit("acme/fails", {"way": "none"})).state is JobState.SUCCEEDED


def test_a_rank_that_died_while_it_waited_costs_the_next_job_nothing(site: Site, host: Worker):
    """An idle group that lost a rank is replaced before anything is sent to it."""
    first = site.submit("acme/fails", {"way": "none"})
    site.wait_ended(first)
    output = orjson.loads(site.store.output(first) or b"null")
    os.kill(output["pid"], signal.SIGKILL)
    # Reaped, not merely a zombie: its threads hold its end of the pipe for a moment longer.
    wait_until(lambda: not psutil.pid_exists(output["pid"]), "the end of rank 0")
    second = site.submit("acme/fails", {"way": "none"})
    record = site.wait_ended(second)
    assert record.state is JobState.SUCCEEDED
    assert record.metrics["cold"]


def test_celery_never_hears_of_a_jobs_failure(site: Site, host: Worker):
    """A failed job is a job done: its message is acknowledged, nothing is retried."""
    job_id = site.submit("acme/fails", {"way": "raise_everywhere"})
    ended_once(site, job_id)
    assert "raised unexpected" not in host.log
    host.wait_log(f"[{job_id}] succeeded in")
