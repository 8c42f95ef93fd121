"""The commands in scripts and in a shell: JSON, exit codes, pipes, completion."""

import json
import re
import signal
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from commands import RANKCAST, ROOT, Running, clean_env, rankcast
from helpers import free_port, wait_until
from jobs import SUCCESS, TASK, append, claim_next, running, submit
from stub_server import Answered, StubServer

from rankcast.tasks.logs import LogLine


@pytest.fixture
def url(web: str) -> str:
    return web


def test_submit_tells_the_job_as_json(url, store):
    done = rankcast("submit", TASK, "prompt=x", "--json", "--url", url)
    assert (done.returncode, done.stderr) == (0, "")
    [job_id] = json.loads(done.stdout).values()
    assert json.loads(done.stdout) == {"job_id": job_id}
    store.cancel(job_id)


def test_submit_and_watch_as_json_is_the_job_and_then_its_log(url, store):
    """A line each, all on stdout."""
    with Running("submit", TASK, "prompt=x", "--watch", "--json", "--url", url) as command:
        job_id = json.loads(command.says("job_id"))["job_id"]
        command.says("queued")
        store.cancel(job_id)
        assert command.wait() == 3
    _, *events = [json.loads(line) for line in command.out]
    assert [event["kind"] for event in events] == ["state", "end"]
    assert command.err == []


def test_cancel_tells_the_state_as_json(url, store):
    job_id = submit(store)
    done = rankcast("cancel", job_id, "--json", "--url", url)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"job_id": job_id, "state": "cancelled"})


def test_a_running_job_that_was_cancelled_comes_with_the_command_that_shows_its_end(url, store):
    claim = running(store)
    done = rankcast("cancel", claim.job_id, "--url", url)
    assert done.stdout == "running\n"
    assert f"rankcast watch {claim.job_id} --url {url}" in done.stderr
    done = rankcast("cancel", claim.job_id, RANKCAST_URL=url)
    assert done.stderr.endswith(f"rankcast watch {claim.job_id}\n")
    store.finish(claim, SUCCESS, 0)


def test_a_trace_tells_when_a_job_got_where(url, store):
    """As a table, and as JSON; of one that was never claimed, too."""
    claim = running(store)
    moments = {"started": 1.25, "called": 2.5, "first_event": 40.0}
    store.finish(claim, replace(SUCCESS, metrics={"queue_ms": 100, "moments_ms": moments}), 1)
    told = json.loads(rankcast("trace", claim.job_id, "--json", "--url", url).stdout)
    ended = told.pop("ended")
    assert told == {"created": 0, "claimed": 100, "started": 101.25, "called": 102.5, "first_event": 140}
    assert ended >= 140
    shown = rankcast("trace", claim.job_id, "--url", url).stdout
    assert re.search(r"^\s*first_event +140\.0 +37\.5 +user code", shown, re.MULTILINE), shown
    queued = submit(store)
    assert json.loads(rankcast("trace", queued, "--json", "--url", url).stdout) == {"created": 0}
    store.cancel(queued)
    assert list(json.loads(rankcast("trace", queued, "--json", "--url", url).stdout)) == ["created", "ended"]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_traced_submit_tells_the_whole_way(form, url, store, event_log):
    """From the POST until the end is here, with how well the two clocks are known; no events."""
    with Running("submit", TASK, "prompt=x", "--trace", *form, "--url", url) as command:
        claim = wait_until(lambda: claim_next(store), "a job")
        store.start(claim)
        append(event_log, claim, 2, '{"n":1}')
        time.sleep(0.2)
        store.finish(claim, replace(SUCCESS, metrics={"queue_ms": 0, "moments_ms": {"started": 1.25}}), 2)
        assert command.wait() == 0, command.told
    names = ["sent", "posted", "created", "answered", "claimed", "started", "delivered", "ended"]
    told = "".join(command.out)
    if form:
        found = json.loads(told)
        assert found["job_id"] == claim.job_id
        assert found["timings"].keys() == {*names, "watching", "end_delivered"}
        assert found["timings"]["posted"] == found["within_ms"]
        assert found["timings"]["end_delivered"] - found["timings"]["delivered"] >= 150
    else:
        assert command.err == [f"job {claim.job_id}\n"]
        assert re.search(r"^ *sent +0\.0 +0\.0 +this client sends the POST", told, re.MULTILINE), told
        assert re.search(r"^ *end_delivered .* this client has the end event", told, re.MULTILINE), told
        assert re.search(r"may all be up to \d+\.\d ms earlier or later", told)


def test_a_traced_submit_ends_as_its_job(url, store):
    """Exit code and reason, as of one that is watched."""
    with Running("submit", TASK, "prompt=x", "--trace", "--url", url) as command:
        job_id = command.says("job ").split()[1]
        store.cancel(job_id)
        assert command.wait() == 3
    assert command.err[-1].startswith("cancelled")
    done = rankcast("submit", TASK, "prompt=x", "--trace", "--watch", "--url", url)
    assert (done.returncode, "not both" in done.stderr) == (2, True)


def test_logs_are_a_line_of_json_each(url, store, logs):
    """All of them on stdout, whichever stream they were."""
    claim = running(store)
    logs.append(claim.job_id, [LogLine(1, "gpu-1", "stderr", "hot\x1b é", 2)])
    done = rankcast("logs", claim.job_id, "--json", "--url", url)
    assert json.loads(done.stdout) == {
        "rank": 1,
        "host": "gpu-1",
        "stream": "stderr",
        "text": "hot\x1b é",
        "ts_ms": 2,
    }
    assert done.stderr == ""
    store.finish(claim, SUCCESS, 0)


def test_logs_are_followed_until_the_job_ends(url, store, logs):
    """From the first line on; and Ctrl-C says how to come back."""
    claim = running(store)
    logs.append(claim.job_id, [LogLine(0, "gpu-1", "stdout", "first", 1)])
    with Running("logs", "-f", claim.job_id, "--url", url) as follow:
        follow.says("first")
        logs.append(claim.job_id, [LogLine(0, "gpu-1", "stdout", "second", 2)])
        follow.says("second")
        with Running("logs", "--follow", claim.job_id, RANKCAST_URL=url) as other:
            other.says("second")
            assert other.stop(signal.SIGINT) == 130
            assert f"rankcast logs -f {claim.job_id}\n" in other.told
        logs.append(claim.job_id, [LogLine(0, "gpu-1", "stdout", "last", 3)])
        store.finish(claim, SUCCESS, 0)
        assert follow.wait() == 0
    assert [line.split("| ")[1] for line in follow.out] == ["first\n", "second\n", "last\n"]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_reader_that_has_enough_ends_the_watching_without_a_word(form, url, store, event_log):
    """As with `head`: no traceback, and the exit code that the shell gives to what SIGPIPE ends."""
    claim = running(store)
    command = [*RANKCAST, "watch", claim.job_id, *form, "--url", url]
    with subprocess.Popen(command, env=clean_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watch:
        assert watch.stdout is not None
        assert b"queued" in watch.stdout.readline()
        watch.stdout.close()
        append(event_log, claim, 2, *(f'{{"n":{number}}}' for number in range(3)))
        assert watch.wait(30) == 128 + signal.SIGPIPE
        assert watch.stderr is not None
        assert watch.stderr.read() == b""
    store.finish(claim, SUCCESS, 4)


def test_a_server_that_asks_for_a_key_is_told_with_where_to_put_it():
    """The environment alone: a command line can be read by others."""
    problem = Answered(401, b'{"detail": "who is that?"}', {"Content-Type": "application/problem+json"})
    with StubServer(lambda asked: problem) as server:
        done = rankcast("status", RANKCAST_URL=server.url)
        rankcast("status", RANKCAST_URL=server.url, RANKCAST_KEY="rk_1")
        assert [asked.headers.get("Authorization") for asked in server.asked] == [None, "Key rk_1"]
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)
    assert "who is that?" in done.stderr
    assert "RANKCAST_KEY" in done.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["wach"], "No such command 'wach'. Did you mean 'watch'? (`rankcast --help` says more)"),
        (["watch"], "Missing argument 'JOB'. (`rankcast watch --help` says more)"),
        (["watch", "x", "--jsn"], "No such option '--jsn'. Did you mean '--json'?"),
        (["submit", TASK, "--priority", "11"], "11 is not in the range 0<=x<=9"),
        (["up", "--port", "0"], "Missing option '--tasks'"),
    ],
)
def test_a_slip_is_told_in_one_line_with_what_may_have_been_meant(args, told):
    done = rankcast(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_is_no_error():
    done = rankcast()
    assert "Usage: rankcast" in done.stdout + done.stderr


def completed(*words: str, shell: str = "zsh", **env: str) -> str:
    """What the shell is given for the last word. In zsh's form: type, value, help."""
    line = " ".join(["rankcast", *words])
    asked = {"_RANKCAST_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    done = rankcast(**asked, **env)
    assert (done.returncode, done.stderr) == (0, "")
    return str(done.stdout).strip()


def test_the_shell_completes_tasks_and_jobs(url, store):
    """The newest jobs, with what they are."""
    claim, other = running(store), submit(store)
    assert completed("submit", "", RANKCAST_URL=url) == "plain\nacme/steps\nCounts."
    assert completed("tasks", "acm", RANKCAST_URL=url) == "plain\nacme/steps\nCounts."
    assert completed("submit", "nobody", RANKCAST_URL=url) == ""
    for command in ("watch", "logs", "cancel", "result"):
        assert f"{claim.job_id}\nacme/steps running" in completed(command, "", RANKCAST_URL=url)
    assert completed("watch", "--url", url, other[:31]) == f"plain\n{other}\nacme/steps queued"
    store.cancel(claim.job_id)
    store.cancel(other)
    store.finish(claim, SUCCESS, 0)


def test_without_an_answer_nothing_is_completed_and_nobody_waits():
    """No server, one that is silent, an address that is none: a key press must not hang or complain."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (free_port(), silent.getsockname()[1]):
            assert completed("watch", "", RANKCAST_URL=f"http://127.0.0.1:{port}") == ""
    assert completed("watch", "", RANKCAST_URL="nonsense") == ""


def test_bash_completes_with_the_line_from_the_help(url, tmp_path: Path):
    """In a real shell, with the script that the help names."""
    path = tmp_path / "rankcast"
    path.write_text(f'#!/bin/sh\nexec {" ".join(RANKCAST)} "$@"\n')
    path.chmod(0o755)
    script = (
        'eval "$(_RANKCAST_COMPLETE=bash_source rankcast)"\n'
        "COMP_WORDS=(rankcast submit ac); COMP_CWORD=2\n"
        '_rankcast_completion rankcast; echo "${COMPREPLY[@]}"\n'
    )
    env = clean_env(RANKCAST_URL=url, PATH=f"{tmp_path}:/usr/bin:/bin")
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("acme/steps", "")
