"""A slot is offered again only when nothing is left of the group that was there."""

from collections.abc import Iterator
from typing import Any

import pytest
from cgroups import frozen
from helpers import wait_until
from workers import Site, Worker, is_alive, worker

from rankcast.tasks.celery_app import queue_of
from rankcast.tasks.state import JobState


@pytest.fixture(scope="module")
def host(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with worker(site.url, "freezes.py", folder=tmp_path_factory.mktemp("host")) as started:
        yield started


def slot(site: Site) -> Any:
    [told] = site.catalog.workers()
    return told.slots[0]


def test_a_slot_whose_process_does_not_die_waits_for_that(site: Site, host: Worker):
    """The job goes back to its queue meanwhile, for others; `status` shows the slot as quarantined."""
    job_id = site.submit("acme/endures")
    site.wait_event(job_id, "count")
    pid = host.ranks[1]
    with frozen(pid):
        wait_until(lambda: slot(site).state == "quarantined", "the slot's quarantine")
        assert is_alive(pid)
        assert site.store.record(job_id).state is JobState.QUEUED
        site.wake("acme/endures", job_id)
        wait_until(lambda: not site.redis.exists(queue_of("acme/endures")), "the answer to it")
        assert site.store.record(job_id).attempt == 1
        assert slot(site).state == "quarantined"
    wait_until(lambda: site.store.record(job_id).state is JobState.RUNNING, "the second attempt")
    assert not is_alive(pid)
    host.wait_log(f"slot 0 is in quarantine: it still has processes {pid}")
    site.store.cancel(job_id)
    record = site.wait_ended(job_id)
    assert (record.state, record.attempt, record.losses) == (JobState.CANCELLED, 2, 1)
