"""`rankcast result`: what a job returned, on the screen or in a file; against a real web tier."""

import base64
import json
import os
import signal
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from commands import Running, rankcast
from helpers import wait_until
from jobs import FAILURE, running, submit
from stub_server import Answered, StubServer

from rankcast.tasks.job import Outcome
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore

PIXELS = bytes(range(256)) * 4
IMAGE = {
    "content_type": "image/png",
    "data": None,
    "url": f"data:;base64,{base64.b64encode(PIXELS).decode()}",
}


@pytest.fixture
def url(web: str) -> str:
    return web


def returned(store: JobStore, output: Any) -> str:
    """A job that returned this; its id."""
    claim = running(store)
    store.finish(claim, Outcome(state=JobState.SUCCEEDED, output=orjson.dumps(output)), 0)
    return claim.job_id


def test_the_output_is_printed_as_json_whole(url, store):
    """In a pipe, where another program reads it."""
    output = {"text": "é\u2028", "image": IMAGE}
    done = rankcast("result", returned(store, output), "--url", url)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == output


def test_a_part_of_it_is_printed_alone(url, store):
    job = returned(store, {"loss": [0.5, 0.25]})
    assert rankcast("result", job, "--at", "loss[1]", "--url", url).stdout == "0.25\n"
    done = rankcast("result", job, "--at", "los", "--url", url)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the output has no $.los; it has $, $.loss, $.loss[0]" in done.stderr


@pytest.mark.parametrize("output", [IMAGE, {"seed": 3, "images": [IMAGE]}])
def test_the_file_that_an_output_holds_is_written_as_bytes(output, url, store, tmp_path):
    """Over what is there, as `curl -o` does, and with nothing beside it."""
    file = tmp_path / "out.png"
    file.write_bytes(b"old")
    done = rankcast("result", returned(store, output), "-o", file, "--url", url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert file.read_bytes() == PIXELS
    assert list(tmp_path.iterdir()) == [file]
    umask = os.umask(0)
    os.umask(umask)
    assert file.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_file_that_is_stored_beside_the_job_is_fetched(tmp_path):
    """From its own server, with the key."""
    reference = {"content_type": "image/png", "url": "/jobs/j1/artifacts/a.png", "file_name": "a.png"}
    answers = {"/jobs/j1/result": json.dumps({"image": reference}).encode(), reference["url"]: PIXELS}
    with StubServer(lambda asked: Answered(200, answers[asked.path])) as server:
        done = rankcast("result", "j1", "-o", tmp_path / "x", "--url", server.url, RANKCAST_KEY="rk_1")
        keys = [asked.headers.get("Authorization") for asked in server.asked]
    assert (done.returncode, done.stderr, keys) == (0, "", ["Key rk_1"] * 2)
    assert (tmp_path / "x").read_bytes() == PIXELS


def test_a_file_of_another_server_is_not_fetched(url, store, tmp_path):
    """What a job returned is nothing to trust."""
    job = returned(store, {"content_type": "image/png", "url": "http://127.0.0.1:1/x"})
    done = rankcast("result", job, "-o", tmp_path / "x", "--url", url)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "is not at" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_output_without_a_file_is_written_as_json(url, store, tmp_path):
    done = rankcast("result", returned(store, {"a": "é"}), "-o", "out.json", "--url", url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.json").read_text(encoding="utf-8") == '{\n  "a": "é"\n}\n'


def test_of_several_files_one_is_chosen(url, store, tmp_path):
    """Without the choice nothing is written, and the paths are told."""
    job = returned(store, {"a": IMAGE, "b": {**IMAGE, "url": "data:,b"}})
    file = tmp_path / "b"
    file.write_bytes(b"old")
    done = rankcast("result", job, "-o", file, "--url", url)
    assert (done.returncode, file.read_bytes()) == (2, b"old")
    assert "choose with --at: $.a, $.b" in done.stderr
    assert rankcast("result", job, "-o", file, "--at", "b", "--url", url).returncode == 0
    assert file.read_bytes() == b"b"


def test_a_file_can_go_to_stdout_or_into_a_device(url, store):
    """Where no file may be put in the place of what is there."""
    job = returned(store, {**IMAGE, "url": "data:,text%0A"})
    assert rankcast("result", job, "-o", "-", "--url", url).stdout == "text\n"
    assert rankcast("result", job, "-o", "/dev/stdout", "--url", url).stdout == "text\n"
    assert rankcast("result", job, "-o", "/dev/null", "--url", url).returncode == 0
    assert not Path("/dev/null").is_file()


def test_what_cannot_be_written_is_told_in_a_line(url, store, tmp_path):
    """A folder that is not there before the job is waited for."""
    job = submit(store)
    done = rankcast("result", job, "-o", tmp_path / "no" / "x", "--url", url)
    assert (done.returncode, "there is no folder" in done.stderr) == (2, True)
    store.cancel(job)
    done = rankcast("result", returned(store, 1), "-o", "/dev/full", "--url", url)
    assert (done.returncode, done.stderr) == (2, "Error: -o /dev/full: No space left on device\n")


def test_a_failed_job_says_why_and_writes_nothing(url, store, tmp_path):
    claim = running(store)
    store.finish(claim, FAILURE, 0)
    done = rankcast("result", claim.job_id, "-o", tmp_path / "x", "--url", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: job {claim.job_id} failed: exception on rank 1: boom\n"
    assert list(tmp_path.iterdir()) == []


def test_a_cancelled_job_has_an_exit_code_of_its_own(url, store):
    job = submit(store)
    store.cancel(job)
    done = rankcast("result", job, "--url", url)
    assert (done.returncode, done.stderr) == (3, f"Error: job {job} was cancelled\n")


def test_as_json_it_is_told_however_the_job_ended(url, store):
    """One object; the exit code is the same as without."""
    job = returned(store, [1])
    done = rankcast("result", job, "--json", "--url", url)
    assert (done.returncode, json.loads(done.stdout)) == (
        0,
        {"job_id": job, "state": "succeeded", "output": [1]},
    )
    claim = running(store)
    store.finish(claim, FAILURE, 0)
    done = rankcast("result", claim.job_id, "--json", "--url", url)
    assert (done.returncode, done.stderr) == (1, "")
    told = json.loads(done.stdout)
    assert (told["state"], told["error"]["message"], "output" in told) == ("failed", "boom", False)
    job = submit(store)
    store.cancel(job)
    done = rankcast("result", job, "--json", "--url", url)
    assert (done.returncode, json.loads(done.stdout)["state"]) == (3, "cancelled")
    assert rankcast("result", job, "--json", "-o", "x", "--url", url).returncode == 2


def test_it_waits_for_the_end_and_ctrl_c_does_not_end_the_job(url, store):
    """And says how to come back, with what was typed."""
    claim = running(store)
    with Running("result", claim.job_id, "-o", "my file", "--url", url) as result:
        wait_until(lambda: psutil.Process(result.process.pid).net_connections(), "its connection")
        assert result.stop(signal.SIGINT) == 130
        assert f"rankcast result {claim.job_id} -o 'my file' --url {url}" in result.told
    with Running("result", claim.job_id, RANKCAST_URL=url) as result:
        store.finish(claim, Outcome(state=JobState.SUCCEEDED, output=b"7"), 0)
        assert result.wait() == 0
        assert result.out == ["7\n"]
