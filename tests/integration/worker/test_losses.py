"""A job whose rank group is lost gets another attempt; one whose code fails only if its task says so."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from jobs import states
from workers import Site, Worker, worker

from rankcast.tasks.event import END
from rankcast.tasks.job import JobRecord
from rankcast.tasks.state import JobState


@pytest.fixture(scope="module")
def host(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("host")
    with worker(site.url, "unlucky.py", folder=folder, env={"BIRTHS": str(folder / "births")}) as started:
        yield started


def told_between(site: Site, job_id: str) -> list[dict[str, Any]]:
    """The error of each `queued` event behind the first."""
    queued = [told for told in states(site.log, job_id) if told["state"] == "queued"]
    return [told["error"] for told in queued[1:]]  # type: ignore[misc]


def history(record: JobRecord) -> list[tuple[int, str | None]]:
    return [(each.attempt, each.error and each.error["kind"]) for each in record.attempts]


def test_a_job_whose_group_is_killed_runs_again_and_succeeds(site: Site, host: Worker):
    """Both losses are in the stream and in the record, with the rank and the signal; one end."""
    job_id = site.submit("acme/unlucky", {"deaths": 2})
    record = site.wait_ended(job_id)
    assert (record.state, record.attempt, record.losses) == (JobState.SUCCEEDED, 3, 2)
    assert orjson.loads(site.store.output(job_id) or b"null") == {"attempt": 3}
    assert history(record) == [(1, "group_lost"), (2, "group_lost"), (3, None)]
    told = told_between(site, job_id)
    assert [(error["kind"], error["rank"], error["signal"]) for error in told] == [
        ("group_lost", 1, "SIGKILL")
    ] * 2
    assert [event.kind for event in site.events(job_id)].count(END) == 1


def test_a_job_that_loses_every_group_fails_with_what_happened_to_the_last(site: Site, host: Worker):
    """It does not go from host to host for ever."""
    record = site.wait_ended(site.submit("acme/unlucky", {"deaths": 9}))
    assert (record.state, record.losses) == (JobState.FAILED, site.settings.max_losses)
    assert history(record) == [(attempt, "group_lost") for attempt in (1, 2, 3)]
    assert record.error is not None
    assert (record.error["kind"], record.error["rank"], record.error["signal"]) == (
        "group_lost",
        1,
        "SIGKILL",
    )
    assert "as 2 before it" in record.error["message"]


def test_a_job_that_kills_every_group_keeps_no_other_from_running(site: Site, host: Worker):
    """On the same slot, while it goes through its attempts."""
    poison = site.submit("acme/unlucky", {"deaths": 9})
    others = [site.submit("acme/unlucky", {"deaths": 0}) for _ in range(4)]
    assert {site.wait_ended(job_id).state for job_id in others} == {JobState.SUCCEEDED}
    assert [site.store.record(job_id).attempt for job_id in others] == [1, 1, 1, 1]
    record = site.wait_ended(poison)
    assert (record.state, record.attempt, record.losses) == (JobState.FAILED, 3, 3)


def test_an_exception_is_retried_as_often_as_the_task_says(site: Site, host: Worker):
    """These attempts are no losses; the stream says why it starts over."""
    job_id = site.submit("acme/stubborn", {"failures": 2})
    record = site.wait_ended(job_id)
    assert (record.state, record.attempt, record.losses) == (JobState.SUCCEEDED, 3, 0)
    assert [error["message"] for error in told_between(site, job_id)] == [
        "no luck in attempt 1",
        "no luck in attempt 2",
    ]


def test_an_exception_after_the_last_retry_ends_the_job(site: Site, host: Worker):
    """With the error of that attempt, traceback included, and the others in the history."""
    record = site.wait_ended(site.submit("acme/stubborn", {"failures": 9}))
    assert (record.state, record.attempt, record.losses) == (JobState.FAILED, 3, 0)
    assert record.error is not None
    assert (record.error["kind"], record.error["message"]) == ("exception", "no luck in attempt 3")
    assert "unlucky.py" in record.error["traceback"]
    assert history(record) == [(attempt, "exception") for attempt in (1, 2, 3)]


def test_a_group_that_dies_at_its_start_is_not_started_again_at_once(site: Site, host: Worker):
    """The task stays off the slot for a while, longer each time, and then the job succeeds."""
    record = site.wait_ended(site.submit("acme/stillborn"))
    assert (record.state, record.losses) == (JobState.SUCCEEDED, 2)
    assert history(record) == [(1, "group_lost"), (2, "group_lost"), (3, None)]
    assert "slot 0 backs off from acme/stillborn for 2 s" in host.log
