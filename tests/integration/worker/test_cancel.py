"""A cancel wins, however the job takes it."""

from collections.abc import Iterator

import orjson
import pytest
from helpers import wait_until
from workers import Site, Worker, is_alive, worker

from rankcast.tasks.event import END
from rankcast.tasks.state import JobState


@pytest.fixture(scope="module")
def host(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with worker(site.url, "steady.py", "slow_to_load.py", folder=tmp_path_factory.mktemp("host")) as started:
        yield started


def cancelled(site: Site, job_id: str) -> None:
    """The job ended as cancelled, with one end event, which is the last."""
    assert site.wait_ended(job_id).state is JobState.CANCELLED
    kinds = [event.kind for event in site.events(job_id)]
    assert (kinds.count(END), kinds[-1]) == (1, END)


def pid_of(site: Site, job_id: str) -> int:
    pid: int = orjson.loads(site.wait_event(job_id, "pid").data)["pid"]
    return pid


def test_a_job_that_asks_stops_by_itself(site: Site, host: Worker):
    """All ranks agree, return, and stay warm for the next job."""
    first, second = (site.submit("acme/patient") for _ in range(2))
    pids = []
    for job_id in (first, second):
        pids.append(pid_of(site, job_id))
        site.store.cancel(job_id)
        cancelled(site, job_id)
    assert pids[0] == pids[1]


def test_a_job_that_does_not_ask_is_killed_after_its_grace(site: Site, host: Worker):
    """It cannot hold its GPUs; the next job finds the slot free."""
    job_id = site.submit("acme/deaf")
    pid = pid_of(site, job_id)
    site.store.cancel(job_id)
    cancelled(site, job_id)
    assert not is_alive(pid)
    assert site.wait_ended(site.submit("acme/other")).state is JobState.SUCCEEDED


def test_a_cancel_wins_at_any_moment_of_a_job(site: Site, host: Worker):
    """From the submit to the end, while ranks start, stream and return: what was acknowledged is kept."""
    answers = []
    for moment in range(30):
        job_id = site.submit("acme/steps", {"steps": 3})
        if moment % 8:
            # 0-1 is the submit, then claim, running and three steps; 6 is just before the end, 7 the end.
            wait_until(lambda job_id=job_id, of=moment % 8: len(site.events(job_id)) >= of, "that far")
        reply = site.store.cancel(job_id)
        answers.append(reply.is_ended)
        state = site.wait_ended(job_id).state
        assert state is (reply.state if reply.is_ended else JobState.CANCELLED)
        kinds = [event.kind for event in site.events(job_id)]
        assert (kinds.count(END), kinds[-1]) == (1, END)
    assert set(answers) == {True, False}


def test_a_revoke_by_id_cancels_the_job(site: Site, host: Worker):
    """Celery's own word for it, on a running job and on one that waits behind it."""
    running, waiting = site.submit("acme/patient"), site.submit("acme/patient")
    pid_of(site, running)
    site.app.control.revoke([waiting, running])
    cancelled(site, running)
    cancelled(site, waiting)
    assert site.wait_ended(site.submit("acme/other")).state is JobState.SUCCEEDED


def test_a_revoke_with_terminate_ends_no_other_job(site: Site, host: Worker):
    """Celery's `terminate=True` asks a pool to kill; here it cancels this one job and no more."""
    job_id = site.submit("acme/patient")
    pid = pid_of(site, job_id)
    site.app.control.revoke(job_id, terminate=True)
    cancelled(site, job_id)
    assert is_alive(pid)


def test_a_revoke_of_an_unknown_id_does_no_harm(site: Site, host: Worker):
    """Somebody's typo must not end a worker."""
    site.app.control.revoke("0" * 32)
    host.wait_log("revoke: there is no job " + "0" * 32)
    assert site.wait_ended(site.submit("acme/other")).state is JobState.SUCCEEDED


def test_a_cancel_while_the_group_loads_ends_the_loading(site: Site, host: Worker):
    """Nobody waits for weights that nobody wants any more."""
    job_id = site.submit("acme/slow_to_load")
    wait_until(lambda: site.store.record(job_id).state is JobState.STARTING, "the claim")
    site.store.cancel(job_id)
    cancelled(site, job_id)
    assert site.store.record(job_id).started_ms is None


def test_a_cancelled_job_that_nobody_took_runs_never(site: Site, host: Worker):
    """Its wake-up comes all the same, and finds nothing."""
    running, waiting = site.submit("acme/patient"), site.submit("acme/other")
    pid_of(site, running)
    site.store.cancel(waiting)
    cancelled(site, waiting)
    site.store.cancel(running)
    cancelled(site, running)
    assert site.store.record(waiting).attempt == 0
