"""The commands that submit, watch and look, as processes, against a real web tier."""

import contextlib
import json
import os
import re
import signal
import subprocess

import orjson
import pytest
from commands import RANKCAST, Running, clean_env, rankcast
from helpers import free_port
from jobs import FAILURE, SUCCESS, TASK, append, running, starting, submit

from rankcast.tasks.catalog import Catalog, SlotInfo, WorkerInfo
from rankcast.tasks.job import Outcome
from rankcast.tasks.logs import LogLine
from rankcast.tasks.state import JobState


@pytest.fixture
def url(web: str) -> str:
    return web


def test_submit_prints_the_id_of_a_job_with_the_input_that_was_typed(url, store):
    """Only the id on stdout: `JOB=$(rankcast submit …)`."""
    done = rankcast("submit", TASK, "prompt=42", "steps=3", "--priority", "1", "--url", url)
    assert (done.returncode, done.stderr) == (0, "")
    record = store.record(done.stdout.strip())
    assert (record.input, record.options.priority) == ({"prompt": "42", "steps": 3}, 1)
    store.cancel(record.job_id)


@pytest.mark.parametrize("form", ["text", "file", "stdin"])
def test_submit_takes_a_whole_input_as_json(form, url, store, tmp_path):
    """On the command line, in a file, or piped in."""
    text = '{"prompt": "A sunset", "steps": 3}'
    (tmp_path / "input.json").write_text(text)
    given = {"text": text, "file": "@input.json", "stdin": "-"}[form]
    done = rankcast("submit", TASK, "--input", given, input=text, cwd=tmp_path, RANKCAST_URL=url)
    assert done.returncode == 0, done.stderr
    assert store.record(done.stdout.strip()).input == json.loads(text)
    store.cancel(done.stdout.strip())


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["acme/step", "prompt=x"], "did you mean acme/steps?"),
        (["acme/step", "--input", '{"prompt": "x"}'], "did you mean acme/steps?"),
        ([TASK, "steps=3"], "$.prompt: is required"),
        ([TASK, "prompt"], "'prompt' is not key=value"),
        ([TASK, "--input", "{"], "--input"),
        ([TASK, "--input", "[1]"], "JSON object"),
        ([TASK, "--input", "@missing.json"], "No such file"),
        ([TASK, "prompt=x", "--input", "{}"], "not both"),
        ([TASK, "prompt=x", "--priority", "10"], "--priority"),
    ],
)
def test_submit_says_in_a_line_what_was_wrong_and_queues_nothing(args, told, url, store):
    """Exit code 2: the command line has to change."""
    done = rankcast("submit", *args, "--url", url)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert store.queued_count(TASK) == 0


def test_watch_prints_a_line_an_event_and_the_output_at_the_end(url, store, event_log):
    """Not a terminal: plain lines, for a file or a pipe. Bytes are never printed."""
    claim = running(store)
    image = {
        "content_type": "image/png",
        "width": 8,
        "height": 8,
        "url": "data:image/png;base64," + "A" * 400,
    }
    append(
        event_log, claim, 2, '{"step":1,"total":4,"loss":0.25}', orjson.dumps({"preview": image}), '"done"'
    )
    output = orjson.dumps({"grid": image, "labels": [1]})
    store.finish(claim, Outcome(state=JobState.SUCCEEDED, output=output), 4)
    done = rankcast("watch", claim.job_id, "--url", url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("queued")
    assert lines[1].startswith("starting")
    assert lines[2:6] == [" 25% step 1/4 loss=0.25", "preview=<image/png 8×8, 300 B>", "done", "succeeded"]
    assert json.loads("\n".join(lines[6:])) == {
        "grid": {**image, "url": "data:image/png;base64,… (300 B)"},
        "labels": [1],
    }


def on_a_terminal(*args: str) -> tuple[int, str]:
    """Run a command with a terminal of 120 columns for stdout; exit code and what the screen was sent."""
    terminal, stdout = os.openpty()
    env = clean_env(TERM="xterm", COLUMNS="120")
    with subprocess.Popen([*RANKCAST, *args], stdin=subprocess.DEVNULL, stdout=stdout, env=env) as command:
        os.close(stdout)
        sent = b""
        # A terminal whose last writer is gone does not end, it fails.
        with contextlib.suppress(OSError):
            while chunk := os.read(terminal, 65536):
                sent += chunk
        os.close(terminal)
    return command.returncode, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent.decode())


def test_on_a_terminal_a_bar_follows_the_progress(url, store, event_log):
    """The bar shows the newest step and what stands beside it; everything else scrolls by above."""
    claim = running(store)
    append(event_log, claim, 2, '{"step":1,"total":4}', '"half way"', '{"step":4,"total":4,"loss":0.5}')
    store.finish(claim, SUCCESS, 4)
    code, screen = on_a_terminal("watch", claim.job_id, "--url", url)
    assert code == 0, screen
    last_bar = [line for line in re.split(r"[\r\n]+", screen) if "━" in line][-1]
    assert re.match(r"succeeded ━+ 100% step 4/4 loss=0\.5 ", last_bar)
    assert re.search(r"^half way$", screen.replace("\r", "\n"), re.MULTILINE)
    assert '"done": true' in screen.rpartition("━")[2]


def test_on_a_terminal_there_is_no_bar_for_a_job_that_is_not_there(url):
    """Only the error."""
    code, screen = on_a_terminal("watch", "nonsense", "--url", url)
    assert (code, "━" in screen) == (2, False)


def test_watch_fetches_an_output_that_is_too_large_for_an_event(url, store):
    """What it prints does not depend on the size."""
    claim = running(store)
    output = orjson.dumps({"text": "x" * 100_000})
    store.finish(claim, Outcome(state=JobState.SUCCEEDED, output=output), 0)
    done = rankcast("watch", claim.job_id, "--url", url)
    assert done.returncode == 0, done.stderr
    assert "x" * 100_000 in done.stdout


def test_watch_as_json_is_the_log_line_by_line(url, store, event_log):
    """For programs: every event whole, exactly as it came."""
    claim = running(store)
    append(event_log, claim, 2, '{"text":"\u2028é"}')
    store.finish(claim, SUCCESS, 2)
    done = rankcast("watch", claim.job_id, "--json", "--url", url)
    events = [json.loads(line) for line in done.stdout.split("\n")[:-1]]
    assert [event["kind"] for event in events] == ["state", "state", "", "end"]
    assert events[2] == {"id": f"{claim.fence}-2", "kind": "", "data": {"text": "\u2028é"}}


def test_watch_exits_with_1_for_a_failed_job_and_says_why(url, store):
    """Kind, rank and message: what there is to mend."""
    claim = running(store)
    store.finish(claim, FAILURE, 0)
    done = rankcast("watch", claim.job_id, "--url", url)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "failed: exception on rank 1: boom"


def test_watch_exits_with_3_for_a_cancelled_job(url, store):
    """A script can tell it from a failure."""
    job_id = submit(store)
    done = rankcast("cancel", job_id, "--url", url)
    assert (done.returncode, done.stdout) == (0, "cancelled\n")
    assert rankcast("watch", job_id, "--url", url).returncode == 3


def test_ctrl_c_ends_the_watching_and_not_the_job(url, store, event_log):
    """Exit code 130, and the way to come back."""
    claim = running(store)
    append(event_log, claim, 2, '{"n":1}')
    with Running("watch", claim.job_id, "--url", url) as watch:
        watch.says("n=1")
        assert watch.stop(signal.SIGINT) == 130
        assert f"rankcast watch {claim.job_id}" in watch.told
        assert "Traceback" not in watch.told
    assert store.record(claim.job_id).state == JobState.RUNNING
    store.finish(claim, SUCCESS, 2)


def test_submit_can_watch_at_once(url, store):
    """`--watch` tells the id on stderr, and how the job ended by the exit code."""
    with Running("submit", TASK, "prompt=x", "--watch", "--url", url) as command:
        job_id = command.says("job ").split()[1]
        command.says("queued")
        store.cancel(job_id)
        assert command.wait() == 3


def test_status_shows_hosts_slots_what_runs_where_and_queues(url, store, settings, redis):
    """Who looks wants to know what is busy, and what waits."""
    claim = starting(store)
    queued = submit(store)
    slots = [
        SlotInfo(index=0, devices=[0, 1], state="busy", warm=TASK, job_id=claim.job_id),
        SlotInfo(index=1, devices=[], state="idle"),
    ]
    worker = WorkerInfo(
        worker_id="w1", host="gpu-1", pid=7, started_ms=0, version="0.1.0", tasks=[TASK], slots=slots
    )
    catalog = Catalog(redis, settings)
    catalog.heartbeat(worker)
    shown = [line.split() for line in rankcast("status", "--url", url).stdout.splitlines()]
    assert ["gpu-1", "7", "0", "0,1", "busy", TASK, claim.job_id] in shown
    assert ["gpu-1", "7", "1", "cpu", "idle"] in shown
    assert [TASK, "1", "1"] in shown
    assert json.loads(rankcast("status", "--json", "--url", url).stdout)["workers"][0]["host"] == "gpu-1"
    catalog.retire("w1", [TASK])
    assert "no worker is alive" in rankcast("status", "--url", url).stdout
    for job_id in (claim.job_id, queued):
        store.cancel(job_id)


def test_tasks_lists_what_can_be_submitted_and_shows_the_schema_of_one(url, task):
    """An unknown name comes with the one that was meant."""
    listed = rankcast("tasks", "--url", url).stdout
    assert "acme/steps  prompt, steps  2" in listed
    assert json.loads(rankcast("tasks", TASK, "--url", url).stdout)["input_schema"] == task.input_schema
    unknown = rankcast("tasks", "steps", "--url", url)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "did you mean acme/steps?" in unknown.stderr


def test_logs_prints_what_the_ranks_wrote_and_where(url, store, logs):
    """Rank and host before each line; stderr stays stderr."""
    claim = running(store)
    lines = [LogLine(0, "gpu-1", "stdout", "loaded\x1b[2J", 1), LogLine(1, "gpu-1", "stderr", "hot", 2)]
    logs.append(claim.job_id, lines)
    done = rankcast("logs", claim.job_id, "--url", url)
    assert done.stdout == "rank 0 gpu-1 | loaded\\x1b[2J\n"
    assert done.stderr == "rank 1 gpu-1 | hot\n"
    store.finish(claim, SUCCESS, 0)


@pytest.mark.parametrize("command", ["watch", "cancel", "logs"])
def test_a_job_that_is_not_there_is_told_in_a_line(command, url):
    """A slip in the id, or its time is over."""
    done = rankcast(command, "nonsense", "--url", url)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no job 'nonsense'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("args", [["status"], ["watch", "x"], ["submit", TASK, "prompt=x"]])
def test_no_server_is_told_with_its_address_and_what_to_start(args):
    """Exit code 4: nothing is wrong with the command line."""
    url = f"http://127.0.0.1:{free_port()}"
    done = rankcast(*args, RANKCAST_URL=url)
    assert (done.returncode, done.stdout) == (4, "")
    assert url in done.stderr
    assert "rankcast up" in done.stderr


def test_watch_resumes_by_itself_at_another_web_process(valkey_url, store, event_log):
    """The server goes away in the middle, and comes back at the same address."""
    claim = running(store)
    port = free_port()
    options = ("web", "--port", port, "--redis-url", valkey_url)
    with Running(*options) as web:
        web.says("Booting worker")
        with Running("watch", claim.job_id, "--url", f"http://127.0.0.1:{port}") as watch:
            watch.says("starting")
            web.stop(signal.SIGTERM)
            append(event_log, claim, 2, '{"n":1}')
            with Running(*options):
                watch.says("n=1")
                store.finish(claim, SUCCESS, 2)
                assert watch.wait() == 0
    assert [line for line in watch.out if "n=1" in line] == ["n=1\n"]
