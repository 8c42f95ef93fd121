"""`rankcast.testing.system`: a whole system in a test's hands, and nothing left of it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from commands import STEPS
from helpers import clean_env, leaving_no_process, marked, wait_until

from rankcast.testing import System, SystemEnded, system


@pytest.fixture(scope="module")
def steps() -> Iterator[System]:
    with system(STEPS, slots=2) as it:
        yield it


@pytest.fixture
def no_process_is_left() -> None:
    """Of those that use the module's system: `rankcast up` has tests of its own for that."""


def test_jobs_run_in_it(steps: System):
    """Through the client that it brings."""
    job = steps.client.submit("examples/steps", prompt="x", steps=2)
    assert job.result(60)["ranks"] == 2
    assert [event.data["step"] for event in job.stream() if event.is_result] == [1, 2]
    [worker] = steps.client.workers()
    assert len(worker["slots"]) == 2


def test_its_redis_can_be_looked_into(steps: System):
    """And is the one that `Steps.delay` needs to be told of."""
    with redis.Redis.from_url(steps.redis_url) as client:
        assert client.ping()


def test_what_its_parts_wrote_can_be_read(steps: System):
    wait_until(lambda: "GET /readyz" in steps.log() or "worker ready" in steps.log(), "lines of the parts")
    assert "worker | " in steps.log()


def test_it_sees_nothing_of_this_process_own_rankcast(monkeypatch: pytest.MonkeyPatch):
    """A worker told to load what it does not know would not start; what is said here it is told. And a
    block that raises leaves nothing either."""
    monkeypatch.setenv("RANKCAST_WARM", "nobody/knows")
    monkeypatch.setenv("RANKCAST_REDIS_URL", "redis://nowhere.invalid/0")
    with leaving_no_process(), pytest.raises(KeyError, match="the test's own"):
        fail_inside(env={"RANKCAST_HOST": "here"}, host="here")


def fail_inside(env: dict[str, str], host: str) -> None:
    with system(STEPS, env=env) as it:
        [worker] = it.client.workers()
        assert worker["host"] == host
        raise KeyError("the test's own")


def test_a_part_that_ends_is_told_with_its_last_lines():
    with leaving_no_process(), system(STEPS) as it:
        [worker] = it.client.workers()
        psutil.Process(worker["pid"]).kill()
        with pytest.raises(SystemEnded, match="worker was ended by SIGKILL; its last lines"):
            wait_until(lambda: "never said" in it.log(), "the end of the worker")


def test_a_file_that_does_not_import_is_told_with_its_line(tmp_path: Path):
    broken = tmp_path / "broken.py"
    broken.write_text("import rankcast\n\nimport no_such_thing\n")
    with leaving_no_process(), pytest.raises(SystemEnded, match=r"broken\.py:3"):
        with system(broken):
            pass
    with pytest.raises(ValueError, match=r"there is no file stepz\.py"):
        with system("stepz.py"):
            pass
    with pytest.raises(ValueError, match="at least one task"):
        with system():
            pass


USERS_TEST = """
SEEN = []

def test_one(rankcast_system):
    system = rankcast_system("steps.py", slots=1)
    SEEN.append(system)
    assert system.client.submit("examples/steps", prompt="x", steps=1).result(60)["steps"] == 1

def test_two(rankcast_system):
    assert rankcast_system("steps.py", slots=1) is SEEN[0]
"""


def users_tests(folder: Path, code: str) -> tuple[list[str], dict[str, str]]:
    """A user's folder with tests of their own; the command that runs them, and its environment."""
    (folder / "steps.py").write_text(STEPS.read_text())
    (folder / "test_steps.py").write_text(code)
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], clean_env()


def test_the_fixture_is_there_without_an_import(tmp_path: Path):
    """One system for the whole session, which ends with it."""
    command, env = users_tests(tmp_path, USERS_TEST)
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert marked(env) == []


def test_a_session_without_it_imports_nothing_heavy(tmp_path: Path):
    """The plugin is in every session of an environment that has Rankcast."""
    code = "import sys\n\ndef test_it():\n    assert not {'torch', 'celery', 'flask'} & set(sys.modules)\n"
    command, env = users_tests(tmp_path, code)
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_outlives_a_session_that_was_killed(tmp_path: Path):
    """kill -9 in the middle of a test."""
    code = USERS_TEST + "    (open('here', 'w').close(), __import__('threading').Event().wait())\n"
    command, env = users_tests(tmp_path, code)
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL) as session:
        wait_until((tmp_path / "here").exists, "the second test", timeout_s=100)
        assert len(marked(env)) > 5
        session.send_signal(signal.SIGKILL)
    wait_until(lambda: not marked(env), f"the end of {marked(env)}")
