"""Large results of real workers through a real web tier: two attempts, two hosts, one folder or not."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from commands import rankcast
from helpers import wait_until
from jobs import SUCCESS, let_grace_pass, let_lease_run_out, running
from PIL import Image
from safetensors.torch import load
from web_tier import WebTier, web_tier
from workers import Site, kill, worker

from rankcast.tasks.job import new_job_id
from rankcast.tasks.shared import SharedFolder
from rankcast.tasks.state import JobState


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> SharedFolder:
    return SharedFolder(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def web(site: Site, shared: SharedFolder) -> Iterator[WebTier]:
    with web_tier(site.url, RANKCAST_SHARED=str(shared.path)) as tier:
        yield tier


def on(shared: SharedFolder, host: str) -> dict[str, str]:
    return {"RANKCAST_SHARED": str(shared.path), "RANKCAST_HOST": host}


def test_a_large_result_is_fetched_by_its_reference(
    site: Site, web: WebTier, shared: SharedFolder, tmp_path: Path
):
    """From event and output; all that the job stored is listed, and nothing else is there."""
    with worker(site.url, "stores.py", folder=tmp_path, env=on(shared, "gpu-1")):
        job_id = site.submit("t/stores")
        assert site.wait_ended(job_id).state is JobState.SUCCEEDED
        with httpx.Client(base_url=web.url) as http:
            output = http.get(f"/jobs/{job_id}/result").json()
            tensor = http.get(output["final"]["url"])
            assert load(tensor.content)["tensor"].shape == (600_000,)
            assert tensor.headers["Content-Type"] == "application/safetensors"
            picture = http.get(output["saved"]["small.png"]["url"])
            assert Image.open(io.BytesIO(picture.content)).size == (3, 2)
            listed = http.get(f"/jobs/{job_id}/artifacts").json()["artifacts"]
            assert len(listed) == 17
            assert output["final"]["url"] in [each["url"] for each in listed]
            workers = http.get("/workers").json()["workers"]
            assert [each["shares_folder"] for each in workers] == [True]


def test_two_attempts_store_beside_each_other(site: Site, web: WebTier, shared: SharedFolder, tmp_path: Path):
    """What the lost one told of stays as it was; kill -9 in between, on another host."""
    with worker(site.url, "stores.py", folder=tmp_path, env=on(shared, "gpu-1")) as first:
        job_id = site.submit("t/stores-twice")
        site.wait_event(job_id, "stays")
        with worker(site.url, "stores.py", folder=tmp_path, env=on(shared, "gpu-2")):
            kill(first.pid)
            first.wait_gone()
            let_grace_pass(site.redis)
            let_lease_run_out(site.redis, job_id)
            assert site.wait_ended(job_id).attempt == 2
    told = [
        event for event in site.events(job_id) if event.kind == "" and b"artifacts" in (event.data or b"")
    ]
    with httpx.Client(base_url=web.url) as http:
        urls = [httpx.Response(200, content=event.data or b"").json()["url"] for event in told]
        assert [http.get(url).text for url in urls] == ["attempt 1", "attempt 2"]


def test_hosts_with_folders_of_their_own_are_told_so(
    site: Site, web: WebTier, shared: SharedFolder, tmp_path: Path
):
    """By the worker that comes later, by the web tier, and by `status`; its results stay in events."""
    apart = SharedFolder(tmp_path / "apart")
    with (
        worker(site.url, "stores.py", folder=tmp_path, env=on(shared, "gpu-1")),
        worker(site.url, "echoes.py", folder=tmp_path, env=on(apart, "gpu-2")) as second,
    ):
        second.wait_log("those on gpu-1 in another folder")
        second.wait_log("no web tier was started with this --shared folder")
        workers = httpx.get(f"{web.url}/workers").json()["workers"]
        assert {each["host"]: each["shares_folder"] for each in workers} == {"gpu-1": True, "gpu-2": False}
        done = rankcast("status", "--url", web.url)
        assert "gpu-2 stores in another folder than the web tier reads" in done.stdout
        assert "gpu-1 stores in another" not in done.stdout
        job_id = site.submit("t/echo", {"value": "x" * 10})
        assert site.wait_ended(job_id).state is JobState.SUCCEEDED


def test_a_worker_removes_the_artifacts_of_forgotten_jobs(
    site: Site, web: WebTier, shared: SharedFolder, tmp_path: Path
):
    """Of its own deployment; those of a job that has a record stay."""
    claim = running(site.store)
    site.store.finish(claim, SUCCESS, 1)
    store, gone = shared.store(claim.deployment), new_job_id()
    for job_id in (claim.job_id, gone):
        store.put(job_id, "7-1-a.txt", lambda path: path.write_text("a"))
        os.utime(shared.artifacts(claim.deployment) / job_id, (0, 0))
    with worker(site.url, "echoes.py", folder=tmp_path, env=on(shared, "gpu-1")) as started:
        started.wait_log(f"job {gone}: artifacts removed, the job is forgotten")
    wait_until(lambda: store.names(gone) == [], "the end of the forgotten job's artifacts")
    assert store.names(claim.job_id) == ["7-1-a.txt"]


def test_what_was_uploaded_is_a_file_on_every_rank(
    site: Site, web: WebTier, shared: SharedFolder, tmp_path: Path
):
    """As its reference in the input; each rank has its own, and they go with the attempt. So is what another
    job stored. What nobody has, and what is not allowed, is the input's fault."""
    cache = tmp_path / "cache"
    env = {**on(shared, "gpu-1"), "XDG_CACHE_HOME": str(cache)}
    with httpx.Client(base_url=web.url) as http, worker(site.url, "stores.py", folder=tmp_path, env=env):
        sent = http.post("/files", params={"file_name": "note.txt"}, content="ä".encode()).json()
        reader = site.submit("t/reads", {"file": sent})
        assert site.wait_ended(reader).state is JobState.SUCCEEDED
        told = json.loads(site.store.output(reader) or b"")
        assert [each["text"] for each in told] == ["ä", "ä"]
        assert len({each["path"] for each in told}) == 2
        assert all(Path(each["path"]).is_relative_to(cache) for each in told)
        wait_until(lambda: not list(cache.rglob("*note.txt")), "the end of what was fetched")

        writer = site.submit("t/stores")
        site.wait_ended(writer)
        stored = json.loads(site.store.output(writer) or b"")["saved"]["note.txt"]
        assert site.wait_ended(site.submit("t/reads", {"file": stored["url"]})).state is JobState.SUCCEEDED

        for file in (f"{sent['url']}x", "http://127.0.0.1:1/", "file:///etc/hostname"):
            error = site.wait_ended(site.submit("t/reads", {"file": file})).error
            assert error is not None
            assert (error["kind"], error["type"]) == (
                "invalid_input",
                "rankcast.tasks.errors.InputNotFetched",
            )
