"""`rankcast up`, `web` and `worker` as a user types them: they start, they tell, they leave nothing."""

import re
import signal
import socket
import urllib.request
from pathlib import Path

import psutil
import pytest
from commands import STEPS, Running, Up, rankcast
from helpers import free_port, wait_until
from workers import TASKS

from rankcast import Client


def test_up_says_in_one_line_where_everything_is(tmp_path: Path):
    """Address, tasks and slots; Ctrl-C stops all of it, in good order."""
    with Up("--tasks", STEPS, "--slots", "2", cwd=tmp_path) as up:
        line = up.says("rankcast is up")
        assert re.search(
            r"http://127\.0\.0\.1:\d+ \| tasks: examples/steps \(2 ranks\) \| 2 slots \(CPU\)", line
        )
        with Client(up.url) as client:
            assert client.submit("examples/steps", prompt="x", steps=2).result(60)["steps"] == 2
        assert len(up.left) > 5
        assert up.stop() == 0, up.told
        assert up.left == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_up_can_be_stopped_like_any_service(signum: signal.Signals):
    with Up("--tasks", STEPS) as up:
        up.says("rankcast is up")
        assert up.stop(signum) == 0, up.told
        assert up.left == []


def test_nothing_outlives_an_up_that_was_killed():
    """kill -9: web, worker, ranks and Redis go with it."""
    with Up("--tasks", STEPS) as up:
        with Client(up.url) as client:
            client.submit("examples/steps", prompt="x", steps=1).result(60)
        up.process.kill()
        up.process.wait()
        wait_until(lambda: not up.left, f"the end of {up.left}")


def test_up_ends_when_a_part_ends_and_says_which(tmp_path: Path):
    """Exit code 1, and no half of it left."""
    with Up("--tasks", STEPS) as up:
        up.says("rankcast is up")
        [worker] = [
            process
            for process in psutil.Process(up.process.pid).children()
            if "celery" in " ".join(process.cmdline())
        ]
        worker.kill()
        assert up.wait() == 1
        assert "worker was ended by SIGKILL" in up.told
        assert up.left == []


def test_what_is_kept_in_data_is_there_the_next_time(tmp_path: Path):
    """Jobs and results, and the lock that keeps a second `up` out."""
    data = tmp_path / "data"
    with Up("--tasks", STEPS, "--data", data) as up:
        with Client(up.url) as client:
            job = client.submit("examples/steps", prompt="x", steps=1)
            job.result(60)
        assert data.stat().st_mode & 0o777 == 0o700, "it has everybody's inputs and results"
        again = rankcast("up", "--tasks", STEPS, "--port", "0", "--data", data)
        assert (again.returncode, again.stdout) == (1, "")
        assert "another `rankcast up` uses it" in again.stderr
        assert up.stop() == 0
    with Up("--tasks", STEPS, "--data", data) as up, Client(up.url) as client:
        assert client.job(job.id).result(10)["prompt"] == "x"
        assert up.stop() == 0


def test_up_has_a_place_for_large_results(tmp_path: Path):
    """Without being told of one; with --data it is kept beside the jobs."""
    data = tmp_path / "data"
    for kept in ((), ("--data", data)):
        with Up("--tasks", TASKS / "stores.py", "--gpus", "none", *kept) as up, Client(up.url) as client:
            job = client.submit("t/stores")
            url = job.result(60)["final"]["url"]
            with urllib.request.urlopen(f"{up.url}{url}") as answer:
                assert len(answer.read()) > 1_200_000
            assert up.stop() == 0
    with Up("--tasks", STEPS, "--data", data) as up:
        with urllib.request.urlopen(f"{up.url}{url}") as answer:
            assert len(answer.read()) > 1_200_000
        assert up.stop() == 0


def test_a_job_that_up_was_stopped_under_goes_on_when_it_is_started_again(tmp_path):
    """Its checkpoints are kept beside it, in DIR/checkpoints."""
    data = tmp_path / "data"
    args = ["--tasks", TASKS / "saves.py", "--gpus", "none", "--data", data]
    with Up(*args, RANKCAST_DRAIN_TIMEOUT_S="0.2") as up, Client(up.url) as client:
        job = client.submit("t/climbs", stays_at=3)
        next(event for event in job.stream() if event.data == "stays")
        assert up.stop() == 0
    [kept, _] = sorted((data / "checkpoints").rglob("*.pt"))
    assert job.id in kept.parts
    with Up(*args) as up, Client(up.url) as client:
        assert client.job(job.id).result(60) == {"began_at": 3, "total": 42}
        assert up.stop() == 0


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "Missing option '--tasks'"),
        (["--tasks", "stepz.py"], "there is no file stepz.py"),
        (["--tasks", "no_such_module"], "there is no module no_such_module"),
        (["--tasks", STEPS, "--host", "0.0.0.0"], "--open"),
        (["--tasks", STEPS, "--redis-url", "redis://localhost", "--data", "x"], "--data"),
    ],
)
def test_what_cannot_work_is_told_before_anything_starts(args, told):
    """One clear line, exit code 2."""
    done = rankcast("up", "--port", "0", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_told_by_its_number():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = rankcast("up", "--tasks", STEPS, "--port", port)
    assert done.returncode == 1
    assert port in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_does_not_import_is_told_with_its_line(tmp_path: Path):
    """The worker's one line, and `up` is over."""
    broken = tmp_path / "broken.py"
    broken.write_text("import rankcast\n\nimport no_such_thing\n")
    with Up("--tasks", broken) as up:
        assert up.wait() == 1
        assert f"{broken}:3" in up.told
        assert "no_such_thing" in up.told
        assert up.left == []


def test_web_and_worker_make_the_same_deployment_by_hand(valkey_url: str, redis, tmp_path: Path):
    """One command each, as on several hosts; web warns when it is open to others."""
    port = str(free_port())
    at = {"RANKCAST_REDIS_URL": valkey_url}
    with (
        Running("web", "--port", port, "--host", "0.0.0.0", "--open", cwd=tmp_path, **at) as web,
        Running("worker", "--tasks", STEPS, "--warm", "examples/steps", cwd=tmp_path, **at) as worker,
    ):
        worker.says("rankcast worker ready")
        assert "anybody who can reach 0.0.0.0 can run jobs" in web.told
        wait_until(lambda: _is_ready(port), "the web tier answers")
        with Client(f"http://127.0.0.1:{port}") as client:
            assert client.submit("examples/steps", prompt="x", steps=1).result(60)["ranks"] == 2
        assert worker.stop(signal.SIGTERM) == 0, worker.told
        assert web.stop(signal.SIGTERM) == 0, web.told
        assert worker.left + web.left == []


def _is_ready(port: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_what_is_still_queued_when_up_ends_is_cancelled():
    """Its Redis goes with it, so nobody will ever run these: who waits for them is told."""
    with Up("--tasks", STEPS) as up, Client(up.url) as client:
        running = client.submit("examples/steps", prompt="x", steps=60)
        next(event for event in running.stream() if event.is_result)
        queued = [client.submit("examples/steps", prompt="x").stream() for _ in range(3)]
        firsts = [next(stream) for stream in queued]
        up.process.send_signal(signal.SIGINT)
        ends = [list(stream)[-1] for stream in queued]
        assert [first.data["state"] for first in firsts] == ["queued"] * 3
        assert [end.data["state"] for end in ends] == ["cancelled"] * 3
        assert up.wait() == 0
        assert up.left == []


def test_a_job_that_runs_too_long_when_up_ends_is_cancelled_too():
    """Its worker gives it back in good order, and then nobody is left to take it: its viewers are told."""
    with Up("--tasks", STEPS, RANKCAST_DRAIN_TIMEOUT_S="0.5") as up, Client(up.url) as client:
        events = client.submit("examples/steps", prompt="x", steps=10_000).stream()
        next(event for event in events if event.is_result)
        up.process.send_signal(signal.SIGINT)
        assert list(events)[-1].data["state"] == "cancelled"
        assert up.wait() == 0
        assert up.left == []


def test_a_redis_that_lets_nobody_in_is_told_in_a_line(valkey_url: str, redis):
    """Not waited for: it will not change its mind."""
    redis.config_set("requirepass", "secret")
    try:
        for args in (["web", "--port", "0"], ["worker", "--tasks", STEPS]):
            for url in (valkey_url, valkey_url.replace("//", "//:wrong@")):
                done = rankcast(*args, RANKCAST_REDIS_URL=url)
                assert done.returncode == 1
                assert "lets nobody in with that password" in done.stderr
                assert "Traceback" not in done.stderr
    finally:
        redis.execute_command("AUTH", "secret")
        redis.config_set("requirepass", "")


def test_a_redis_url_that_is_none_is_told_in_a_line():
    for args in (["web", "--port", "0"], ["worker", "--tasks", STEPS]):
        done = rankcast(*args, RANKCAST_REDIS_URL="127.0.0.1:6379")
        assert done.returncode in (1, 2)
        assert "redis://" in done.stderr
        assert "Traceback" not in done.stderr
