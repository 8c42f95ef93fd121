"""What README prints is what works: its lines are run as they stand, on another port."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import ROOT, STEPS, Up
from helpers import clean_env

from rankcast.cli import main

README = (ROOT / "README.md").read_text()
CLIENTS = (ROOT / "docs" / "clients.md").read_text()
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(README)


def block(language: str, words: str, page: str = README) -> str:
    """The one code block of this language with these words."""
    [found] = [text for kind, text in BLOCK.findall(page) if kind == language and words in text]
    return found


@pytest.fixture(scope="module")
def up(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """As README starts it, on the tests' Redis."""
    with Up("--tasks", STEPS, "--redis-url", valkey_url, cwd=tmp_path_factory.mktemp("up")) as up:
        up.says("rankcast is up")
        yield up
        assert up.stop() == 0, up.told
        assert up.left == []


@pytest.fixture(autouse=True)
def no_process_is_left() -> None:
    """The group stays warm from one test to the next; `up` checks at the end."""


def run(*command: str, up: Up, cwd: Path, **env: str) -> str:
    """Its output; it must succeed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=cwd, env=clean_env(PATH=path, RANKCAST_URL=up.url, **env),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def at(up: Up, text: str) -> str:
    return text.replace("http://127.0.0.1:8700", up.url)


def test_the_task_in_the_readme_is_the_example():
    assert block("python", "class Steps") == STEPS.read_text()


def test_the_curl_lines_submit_watch_resume_and_cancel(up: Up, tmp_path: Path):
    """In one shell, in their order."""
    told = run("bash", "-euc", at(up, block("sh", "curl -s -X POST")), up=up, cwd=tmp_path)
    assert told.count("event: end\n") == 2, "the stream from its start, and once resumed"
    assert told.count("id: 0-1\n") == 1, "the resumed stream begins after it"
    assert told.count('{"prompt":"A sunset","steps":20,"ranks":2}') >= 3
    assert "[rank 1] ready" in told
    assert told.endswith('data: {"prompt":"A sunset","steps":3,"ranks":2}\n\n')


def test_the_python_client_streams_and_has_the_result(up: Up, tmp_path: Path):
    told = run(
        sys.executable, "-c", at(up, block("python", "from rankcast import Client")), up=up, cwd=tmp_path
    )
    assert told.splitlines()[-1] == str({"prompt": "A sunset", "steps": 20, "ranks": 2})


@pytest.mark.parametrize("words", ["with Client()", "AsyncClient()"])
def test_the_python_clients_of_the_clients_page_do_too(up: Up, tmp_path: Path, words: str):
    told = run(sys.executable, "-c", block("python", words, CLIENTS), up=up, cwd=tmp_path)
    assert told.splitlines()[-1] == str({"prompt": "A sunset", "steps": 20, "ranks": 2})


def test_a_task_is_tested_without_a_server(up: Up, tmp_path: Path):
    shutil.copy(STEPS, tmp_path)
    run(
        sys.executable,
        "-c",
        f"from steps import Steps\n{block('python', 'rankcast.testing')}",
        up=up,
        cwd=tmp_path,
    )


def test_delay_queues_the_same_job_beside_redis(up: Up, tmp_path: Path, valkey_url: str):
    """With the class at hand, and without HTTP."""
    shutil.copy(STEPS, tmp_path)
    code = block("python", "Steps.delay")
    told = run(sys.executable, "-c", code, up=up, cwd=tmp_path, RANKCAST_REDIS_URL=valkey_url)
    assert "'steps': 20" in told


def test_the_shell_commands_work(up: Up, tmp_path: Path):
    """`submit` first; JOB stands for the id of a job."""
    job = run("rankcast", "submit", "examples/steps", "prompt=x", up=up, cwd=tmp_path).strip()
    lines = block("sh", "rankcast watch JOB").replace(" JOB", f" {job}")
    told = run("bash", "-euc", lines, up=up, cwd=tmp_path)
    assert "succeeded" in told
    assert "examples/steps" in told


def test_the_lines_about_keys_make_list_and_revoke_one(up: Up, tmp_path: Path):
    """The server between them is started in test_cli_keys.py."""
    lines = block("sh", "rankcast keys create").splitlines()
    told = run("bash", "-euc", "\n".join(line for line in lines if " keys " in line), up=up, cwd=tmp_path)
    assert told.startswith("rk_")
    assert "alice" in told
    assert told.endswith("(alice) is revoked\n")


def test_every_command_line_has_options_that_exist():
    """Those of `up`, and those of a second host, which need hosts to run."""
    lines = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
    told = [line.split("#")[0].split() for line in lines if line.startswith("rankcast ")]
    assert {words[1] for words in told} >= {"up", "web", "worker", "submit", "watch", "status"}
    for words in told:
        command = words[1:3] if words[1] == "keys" else words[1:2]
        known = CliRunner().invoke(main, [*command, "--help"]).output
        assert [option for option in words[2:] if option.startswith("--") and option not in known] == []


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)", README)
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []
