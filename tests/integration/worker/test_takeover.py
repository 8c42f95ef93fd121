"""A worker that dies or freezes in the middle of a job: another takes the job over, once and for all."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from helpers import wait_until
from workers import Site, Worker, worker

from rankcast.tasks.event import END
from rankcast.tasks.state import JobState

#: A lease (15 s), a sweep, and a busy machine.
TAKEOVER_TIMEOUT_S = 45.0


@pytest.fixture
def hosts(site: Site, tmp_path: Path) -> Iterator[dict[str, Worker]]:
    """Two workers, by the name of their host."""
    with (
        worker(site.url, "steady.py", folder=tmp_path, env={"RANKCAST_HOST": "gpu-1"}) as one,
        worker(site.url, "steady.py", folder=tmp_path, env={"RANKCAST_HOST": "gpu-2"}) as two,
    ):
        yield {"gpu-1": one, "gpu-2": two}


def host_of(site: Site, job_id: str) -> str:
    return (site.store.record(job_id).worker or "").split(":")[0]


def is_taken_over(site: Site, job_id: str) -> bool:
    record = site.store.record(job_id)
    return record.attempt == 2 and record.state is JobState.RUNNING


def fences_in_order(site: Site, job_id: str) -> bool:
    ids = [event.id for event in site.events(job_id)]
    return ids == sorted(set(ids)) and all(
        later.prev == event.id
        for event, later in zip(site.events(job_id), site.events(job_id)[1:], strict=False)
    )


def test_the_job_of_a_killed_worker_is_run_by_another(site: Site, hosts: dict[str, Worker]):
    """One log, two attempts in it, one end."""
    job_id = site.submit("acme/patient")
    site.wait_event(job_id, "pid")
    lost = host_of(site, job_id)
    os.kill(hosts[lost].pid, signal.SIGKILL)
    wait_until(lambda: is_taken_over(site, job_id), "the second attempt runs", timeout_s=TAKEOVER_TIMEOUT_S)
    assert host_of(site, job_id) != lost
    hosts[lost].wait_gone()

    site.store.cancel(job_id)
    record = site.wait_ended(job_id)
    assert (record.state, record.attempt, record.losses) == (JobState.CANCELLED, 2, 1)
    assert [event.kind for event in site.events(job_id)].count(END) == 1
    assert fences_in_order(site, job_id)


def test_a_worker_that_was_frozen_writes_nothing_when_it_thaws(site: Site, hosts: dict[str, Worker]):
    """The worker and its ranks stop for longer than a lease; the fence, not the clock, shuts them out."""
    job_id = site.submit("acme/patient")
    site.wait_event(job_id, "pid")
    frozen = psutil.Process(hosts[host_of(site, job_id)].pid)
    family = [frozen, *frozen.children(recursive=True)]
    for process in family:
        process.suspend()
    try:
        wait_until(lambda: is_taken_over(site, job_id), "the job is taken", timeout_s=TAKEOVER_TIMEOUT_S)
        second = site.store.record(job_id).fence
    finally:
        for process in family:
            process.resume()
    log = next(host for host in hosts.values() if host.pid == frozen.pid)
    log.wait_log(f"job {job_id}: attempt 1 stops")

    site.store.cancel(job_id)
    assert site.wait_ended(job_id).fence == second
    events = site.events(job_id)
    began = next(index for index, event in enumerate(events) if event.id.fence == second)
    assert {event.id.fence for event in events[began:]} == {second}
    assert json.loads(events[-1].data or b"")["state"] == "cancelled"
    assert fences_in_order(site, job_id)


def test_the_next_worker_on_a_host_takes_the_job_of_one_that_was_killed_there(site: Site, tmp_path: Path):
    """It sees that the process is gone, and does not wait for the lease."""
    with worker(site.url, "steady.py", folder=tmp_path) as first:
        job_id = site.submit("acme/patient")
        site.wait_event(job_id, "pid")
        os.kill(first.pid, signal.SIGKILL)
        with worker(site.url, "steady.py", folder=tmp_path) as second:
            wait_until(lambda: is_taken_over(site, job_id), "the second attempt runs")
            second.wait_log(f"job {job_id}: taken from a worker that died on this host")
            assert site.store.record(job_id).attempts[0].error == {
                "kind": "worker_lost",
                "message": "its worker died",
            }
            site.store.cancel(job_id)
            site.wait_ended(job_id)
