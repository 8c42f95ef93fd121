"""A rank that stands still does not hold its job, or its slot, for ever."""

from collections.abc import Iterator

import orjson
import psutil
import pytest
from helpers import wait_until
from jobs import now_ms
from workers import Site, Worker, worker

from rankcast.tasks.state import JobState


@pytest.fixture(scope="module")
def host(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with worker(site.url, "freezes.py", folder=tmp_path_factory.mktemp("host")) as started:
        yield started


@pytest.mark.parametrize("task", ["acme/stops", "acme/sticks"])
def test_a_job_whose_rank_freezes_runs_again(site: Site, host: Worker, task: str):
    """Stopped by a signal, or in C with the interpreter's lock. A loss like any other, with its own kind:
    the rank that was not heard is named."""
    job_id = site.submit(task)
    record = site.wait_ended(job_id)
    assert (record.state, record.attempt, record.losses) == (JobState.SUCCEEDED, 2, 1)
    error = record.attempts[0].error
    assert error is not None
    assert (error["kind"], error["rank"]) == ("rank_frozen", 1)
    assert orjson.loads(site.store.output(job_id) or b"null")["attempt"] == 2


def test_a_worker_that_froze_with_its_ranks_blames_none_of_them(site: Site, host: Worker):
    """Its host stood still for longer than `silence_s`, and less than a lease: the job goes on."""
    job_id = site.submit("acme/endures")
    site.wait_event(job_id, "count")
    family = [psutil.Process(host.pid), *psutil.Process(host.pid).children(recursive=True)]
    until = now_ms(site.redis) + 4000
    for process in family:
        process.suspend()
    try:
        wait_until(lambda: now_ms(site.redis) > until, "twice the time that a rank may be silent")
    finally:
        # The worker first: it looks at ranks that cannot have said anything yet.
        for process in family:
            process.resume()
    last = site.store.record(job_id).last
    wait_until(lambda: site.store.record(job_id).last.seq > last.seq + 100, "it goes on")
    site.store.cancel(job_id)
    record = site.wait_ended(job_id)
    assert (record.state, record.attempt, record.losses) == (JobState.CANCELLED, 1, 0)


def test_a_job_without_progress_fails_if_its_task_says_for_how_long(site: Site, host: Worker):
    """At once and for good: it would stall again."""
    record = site.wait_ended(site.submit("acme/stalls", {"says": "nothing"}))
    assert (record.state, record.attempt) == (JobState.FAILED, 1)
    assert record.error is not None
    assert record.error["kind"] == "stalled"
    assert "for 1 s" in record.error["message"]


def test_one_rank_that_says_it_is_alive_speaks_for_all(site: Site, host: Worker):
    """The others may sit in a collective with it."""
    record = site.wait_ended(site.submit("acme/stalls", {"says": "alive"}))
    assert record.state is JobState.SUCCEEDED


def test_a_job_that_runs_past_its_total_time_fails(site: Site, host: Worker):
    """Told apart from the limit of one attempt; the next job on that slot works."""
    record = site.wait_ended(site.submit("acme/stalls", {"says": "alive"}, total_timeout_s=1.0))
    assert (record.state, record.attempt) == (JobState.FAILED, 1)
    assert record.error is not None
    assert record.error["kind"] == "total_timeout"
    assert "within 1 s of its submit" in record.error["message"]
    assert site.wait_ended(site.submit("acme/stalls", {"says": "alive"})).state is JobState.SUCCEEDED
