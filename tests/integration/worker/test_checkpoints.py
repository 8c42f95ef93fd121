"""A job goes on from its last checkpoint: after a killed worker, a killed rank, a drain, on another host."""

import json
import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from helpers import wait_until
from jobs import SUCCESS, let_grace_pass, let_lease_run_out, running, states
from workers import Site, Worker, kill, worker

from rankcast.tasks.job import JobRecord, new_job_id
from rankcast.tasks.state import JobState

DIGITS = Path(__file__).parents[3] / "examples" / "digits" / "train.py"


def host(
    site: Site, folder: Path, name: str, *, tasks: str = "saves.py", **env: str
) -> AbstractContextManager[Worker]:
    """A worker with a working directory and a cache of its own."""
    (folder / name).mkdir()
    own = {"RANKCAST_HOST": name, "XDG_CACHE_HOME": str(folder / name / "cache")}
    return worker(site.url, tasks, folder=folder, cwd=folder / name, env={**own, **env})


def lose(site: Site, host: Worker, job_id: str) -> None:
    """Kill the worker that has the job, and do not wait for the lease."""
    kill(host.pid)
    host.wait_gone()
    let_grace_pass(site.redis)
    let_lease_run_out(site.redis, job_id)


def began(site: Site, job_id: str) -> list[dict[str, Any]]:
    """The event with which each attempt says that it runs."""
    return [told for told in states(site.log, job_id) if told["state"] == "running"]


def began_at(site: Site, job_id: str) -> int:
    """At which step the attempt began that ended the job."""
    output = json.loads(site.store.output(job_id) or b"null")
    # 2 ranks, each adding 1 + … + 6: nothing was left out, and nothing done twice.
    assert output["total"] == 42
    step: int = output["began_at"]
    return step


def succeeded(record: JobRecord, *, losses: int) -> bool:
    return (record.state, record.attempt, record.losses) == (JobState.SUCCEEDED, 2, losses)


def test_another_host_goes_on_where_a_killed_worker_was(site: Site, tmp_path: Path):
    """kill -9 in the middle; both hosts see one folder, and the stream says from where it goes on."""
    shared = {"RANKCAST_SHARED": str(tmp_path / "shared")}
    with host(site, tmp_path, "gpu-1", **shared) as first:
        job_id = site.submit("t/climbs", {"stays_at": 3})
        site.wait_event(job_id, "stays")
        with host(site, tmp_path, "gpu-2", **shared):
            lose(site, first, job_id)
            assert succeeded(site.wait_ended(job_id), losses=1)
    assert began_at(site, job_id) == 3
    one, two = began(site, job_id)
    assert "resumes_from" not in one
    assert (two["attempt"], two["resumes_from"]["attempt"], two["resumes_from"]["step"]) == (2, 1, 3)
    assert (site.store.record(job_id).worker or "").startswith("gpu-2")
    # What the lost attempt left is gone, and so is what the second one replaced.
    left = {path.parent.parent.name for path in (tmp_path / "shared").rglob("*.pt")}
    assert left == {str(site.store.record(job_id).fence)}


def test_a_training_that_lost_its_worker_ends_with_the_weights_of_one_that_did_not(
    site: Site, tmp_path: Path
):
    """To the bit: same shuffles, same noise, same averages, on another host."""
    env = {"RANKCAST_SHARED": str(tmp_path / "shared"), "DIGITS_DIR": str(tmp_path)}
    input = {"steps": 225, "batch_size": 8}
    with (
        host(site, tmp_path, "gpu-1", tasks=str(DIGITS), **env) as one,
        host(site, tmp_path, "gpu-2", tasks=str(DIGITS), **env) as two,
    ):
        job_id = site.submit("examples/digits-train", input)
        wait_until(lambda: site.store.record(job_id).checkpoint, "a first checkpoint", timeout_s=60)
        is_first = (site.store.record(job_id).worker or "").startswith("gpu-1")
        lose(site, one if is_first else two, job_id)
        assert succeeded(site.wait_ended(job_id, timeout_s=60), losses=1)
        whole = site.submit("examples/digits-train", input)
        assert site.wait_ended(whole, timeout_s=60).attempt == 1
    resumed, at_once = (json.loads(site.store.output(each) or b"null") for each in (job_id, whole))
    assert resumed["weights_sha256"] == at_once["weights_sha256"]
    assert resumed["final_loss"] == at_once["final_loss"]
    told = began(site, job_id)[1]["resumes_from"]
    assert told["step"] % 100 == 0
    second = site.store.record(job_id).fence
    results = [event for event in site.events(job_id) if not event.kind and event.id.fence == second]
    steps = [json.loads(event.data or b"")["step"] for event in results]
    assert steps == list(range(told["step"] + 25, 226, 25))


def test_without_a_shared_folder_another_host_starts_anew_and_says_why(site: Site, tmp_path: Path):
    """Nothing else is possible, and nobody should have to guess."""
    with host(site, tmp_path, "gpu-1") as first:
        job_id = site.submit("t/climbs", {"stays_at": 3})
        site.wait_event(job_id, "stays")
        with host(site, tmp_path, "gpu-2") as second:
            lose(site, first, job_id)
            assert succeeded(site.wait_ended(job_id), losses=1)
            second.wait_log("starts anew: the checkpoint of attempt 1 is not on this host")
    assert began_at(site, job_id) == 0
    assert began(site, job_id)[1] == {
        "state": "running",
        "attempt": 2,
        "message": "starts anew: the checkpoint of attempt 1 is not on this host; "
        "give all workers one --shared folder",
    }


def test_a_drained_job_goes_on_from_its_checkpoint(site: Site, tmp_path: Path):
    """SIGTERM with a limit: the job goes back uncounted, and the next worker on the host has its file."""
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    with host(site, tmp_path, "gpu-1", RANKCAST_DRAIN_TIMEOUT_S="0.2", **cache) as first:
        job_id = site.submit("t/climbs", {"stays_at": 4})
        site.wait_event(job_id, "stays")
        assert first.stop(signal.SIGTERM) == 0
        record = site.store.record(job_id)
        assert (record.state, record.losses) == (JobState.QUEUED, 0)
        assert record.checkpoint is not None
        assert record.checkpoint["step"] == 4
    with host(site, tmp_path, "gpu-2", **cache):
        assert succeeded(site.wait_ended(job_id), losses=0)
    assert began_at(site, job_id) == 4


def test_one_host_goes_on_from_its_own_checkpoints_and_fails_a_job_with_a_full_disk(
    site: Site, tmp_path: Path
):
    """A rank is lost, and the worker loads another group; the jobs after it are jobs of their own."""
    with host(site, tmp_path, "gpu-1"):
        job_id = site.submit("t/climbs", {"dies_behind": 2})
        assert succeeded(site.wait_ended(job_id), losses=1)
        assert began_at(site, job_id) == 2
        another = site.submit("t/climbs")
        site.wait_ended(another)
        assert began_at(site, another) == 0

        job_id = site.submit("t/fills")
        record = site.wait_ended(job_id)
        assert (record.state, record.attempt) == (JobState.FAILED, 1)
        assert record.error is not None
        assert record.error["kind"] == "storage_full"
        assert site.wait_ended(site.submit("t/fills", {"is_caught": True})).state is JobState.SUCCEEDED


def test_a_worker_removes_the_checkpoints_of_forgotten_jobs(site: Site, tmp_path: Path):
    """Of its own deployment: another one's folder is none of its business."""
    claim = running(site.store)
    site.store.finish(claim, SUCCESS, 1)
    ours, theirs = (tmp_path / "shared" / "checkpoints" / name for name in (claim.deployment, "other"))
    for folder in (ours, theirs):
        forgotten = folder / new_job_id()
        (forgotten / "1").mkdir(parents=True)
        os.utime(forgotten, (0, 0))
    with host(site, tmp_path, "gpu-1", RANKCAST_SHARED=str(tmp_path / "shared")) as started:
        started.wait_log("checkpoints removed, the job is forgotten")
    assert list(ours.iterdir()) == []
    assert len(list(theirs.iterdir())) == 1
