"""A worker on a host with a GPU: who gets the device, and that it comes back."""

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import orjson
import pytest
from helpers import wait_until
from payloads import array_of
from workers import Site, kill, worker

from rankcast.tasks.event import RESULT
from rankcast.tasks.state import JobState

TASKS = str(Path(__file__).with_name("tasks.py"))
#: All GPUs, and two ranks may share one: this runs on a host with a single GPU too.
GPUS = {"RANKCAST_GPUS": "", "RANKCAST_SHARE_GPU": "1"}

MemoryUsed = Callable[[], int]


@pytest.fixture
def site(valkey_url: str) -> Iterator[Site]:
    site = Site(valkey_url)
    site.redis.flushall()
    yield site
    site.close()


def value(site: Site, task: str) -> dict[str, object]:
    job_id = site.submit(task)
    record = site.wait_ended(job_id, timeout_s=120)
    assert record.state is JobState.SUCCEEDED, record.error
    told: dict[str, object] = orjson.loads(site.store.output(job_id) or b"null")
    return told


def test_jobs_run_on_the_gpus_of_their_slot(site: Site, tmp_path: Path, memory_used_mib: MemoryUsed):
    """One rank over NCCL, then two that share; unused, the group gives its memory back."""
    before = memory_used_mib()
    with worker(site.url, TASKS, folder=tmp_path, env={**GPUS, "RANKCAST_IDLE_TTL_S": "0.5"}) as host:
        one, two = value(site, "gpu/one"), value(site, "gpu/two")
        assert (one["backend"], one["device"], one["sum"]) == ("nccl", "cuda:0", 1.0)
        assert (two["backend"], two["device"], two["sum"]) == ("gloo", "cuda:0", 3.0)
        [told] = site.catalog.workers()
        assert told.slots[0].devices == [0]
        host.wait_log("gpu/two unloaded")
        wait_until(lambda: memory_used_mib() <= before + 64, "the device is free while the worker waits")


def test_showing_a_tensor_waits_for_no_kernel_and_shows_it_as_it_stood(site: Site, tmp_path: Path):
    """It is large, the GPU still works when the call returns, and what comes next changes it."""
    with worker(site.url, TASKS, folder=tmp_path, env=GPUS):
        job_id = site.submit("gpu/goes-on")
        record = site.wait_ended(job_id, timeout_s=120)
        assert record.state is JobState.SUCCEEDED, record.error
        assert orjson.loads(site.store.output(job_id) or b"null") is True
        (event,) = [each for each in site.events(job_id) if each.kind == RESULT]
        shown = orjson.loads(event.data)["latents"]
        _, _, encoded = shown["url"].partition("base64,")
        values = numpy.load(io.BytesIO(base64.b64decode(encoded)))
        assert (values == numpy.arange(1, 1024 * 1024 + 1, dtype=numpy.float32)).all()


def test_showing_a_loss_waits_for_no_kernel_either(site: Site, tmp_path: Path):
    """Numbers and small tensors, each as it stood; the GPU still works when the call returns."""
    with worker(site.url, TASKS, folder=tmp_path, env=GPUS):
        job_id = site.submit("gpu/loses-less")
        record = site.wait_ended(job_id, timeout_s=120)
        assert record.state is JobState.SUCCEEDED, record.error
        assert orjson.loads(site.store.output(job_id) or b"null") == [True] * 3
        shown = [orjson.loads(each.data) for each in site.events(job_id) if each.kind == RESULT]
        assert [each["loss"] for each in shown] == [0.5, 1.25, 2.0]
        assert [each["more"] for each in shown] == [[True, 0, None], [False, 1, None], [False, 2, None]]
        assert [array_of(each["weights"]).tolist() for each in shown] == [
            [[step + 1] * 2] * 3 for step in range(3)
        ]


def test_a_killed_worker_gives_the_memory_back(site: Site, tmp_path: Path, memory_used_mib: MemoryUsed):
    """kill -9 in the middle of a job that holds 2 GiB."""
    before = memory_used_mib()
    with worker(site.url, TASKS, folder=tmp_path, env=GPUS) as host:
        site.wait_event(site.submit("gpu/hog"), "holding")
        assert memory_used_mib() >= before + 2048
        kill(host.pid)
        host.wait_gone()
        wait_until(lambda: memory_used_mib() <= before + 64, "the device's memory is back")


def test_a_task_with_more_ranks_than_gpus_is_refused_by_name(site: Site, tmp_path: Path):
    """Unless ranks may share: at start, and not when its first job comes."""
    with worker(site.url, TASKS, folder=tmp_path, env={"RANKCAST_GPUS": "0"}, is_ready=False) as host:
        assert host.process.wait(120) == 1
        assert "task 'gpu/two' has 2 ranks, one GPU each, and this worker has 1 GPUs" in host.log
