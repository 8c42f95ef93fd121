"""A worker's processes are killed or frozen as a whole: its jobs are run all the same."""

import os
import signal
from pathlib import Path

import orjson
import psutil
from cgroups import control_group
from helpers import wait_until
from workers import Site, Worker, worker

from rankcast.tasks.celery_app import queue_of
from rankcast.tasks.state import JobState


def freeze_while_it_waits(site: Site, host: Worker) -> None:
    """Stop the worker while it has asked Redis for the next message, and has not been answered."""

    def has_asked() -> bool:
        psutil.Process(host.pid).suspend()
        if any(client["cmd"] == "brpop" and "b" in client["flags"] for client in site.redis.client_list()):
            return True
        psutil.Process(host.pid).resume()
        return False

    wait_until(has_asked, "the worker waits for a message")


def test_a_job_whose_message_went_to_a_frozen_worker_is_not_lost(site: Site, tmp_path: Path):
    """It was idle and froze; Redis hands it the message, which nobody has noted yet when it is killed.
    The next worker finds the job in its index, and then suffers the same."""
    jobs: list[str] = []
    for _ in range(3):
        with worker(site.url, "steady.py", folder=tmp_path) as host:
            if jobs:
                assert site.wait_ended(jobs[-1]).state is JobState.SUCCEEDED
            freeze_while_it_waits(site, host)
            jobs.append(site.submit("acme/other"))
            wait_until(lambda: not site.redis.exists(queue_of("acme/other")), "Redis has sent the message")
            os.kill(host.pid, signal.SIGKILL)
    with worker(site.url, "steady.py", folder=tmp_path):
        records = [site.wait_ended(job_id) for job_id in jobs]
    assert [(record.state, record.attempt) for record in records] == [(JobState.SUCCEEDED, 1)] * 3


def test_workers_killed_with_their_whole_process_groups_lose_no_job(site: Site, tmp_path: Path):
    """One that runs a job, and an idle one that the next job was meant for."""
    with (
        worker(site.url, "steady.py", folder=tmp_path, leads_group=True) as busy,
        worker(site.url, "failing.py", folder=tmp_path, leads_group=True) as idle,
    ):
        running = site.submit("acme/patient")
        site.wait_event(running, "pid")
        for host in (idle, busy):
            os.killpg(host.pid, signal.SIGKILL)
        waiting = site.submit("acme/fails", {"way": "none"})
        for host in (idle, busy):
            host.wait_gone()
    with worker(site.url, "steady.py", "failing.py", folder=tmp_path, env={"RANKCAST_SLOTS": "2"}):
        assert site.wait_ended(waiting).state is JobState.SUCCEEDED
        wait_until(lambda: site.store.record(running).state is JobState.RUNNING, "the next attempt")
        site.store.cancel(running)
        record = site.wait_ended(running)
    assert (record.state, record.attempt, record.losses) == (JobState.CANCELLED, 2, 1)


def test_a_rank_that_the_kernel_kills_for_its_memory_ends_its_job_by_that_name(site: Site, tmp_path: Path):
    """A real kill, in a control group with a limit. It is not tried again; the next job runs."""
    with control_group("memory") as folder:
        (folder / "memory.limit_in_bytes").write_text(str(1536 * 1024**2))
        with worker(site.url, "eats_memory.py", folder=tmp_path, control_group=folder):
            record = site.wait_ended(site.submit("acme/eats", {"is_greedy": True}))
            assert (record.state, record.attempt) == (JobState.FAILED, 1)
            assert record.error is not None
            told = {name: record.error[name] for name in ("kind", "rank", "signal")}
            assert told == {"kind": "oom_killed", "rank": 1, "signal": "SIGKILL"}
            job_id = site.submit("acme/eats", {"is_greedy": False})
            assert site.wait_ended(job_id).state is JobState.SUCCEEDED
            assert orjson.loads(site.store.output(job_id) or b"null") == 0
