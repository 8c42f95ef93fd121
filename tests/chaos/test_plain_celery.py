"""`make plain-celery` in one row and one round: the comparison cannot rot."""

import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT
from helpers import clean_env, marked

COMMAND = ROOT / "benchmarks" / "plain_celery.py"


@pytest.mark.timeout(240)
def test_one_message_four_times_runs_once_here_and_more_often_under_plain_celery(tmp_path: Path):
    """Both went through the fault, by the table that the command leaves; and no process is left."""
    env = clean_env()
    options = ["--rounds", "1", "--fault", "message delivered 4 times", "--results", tmp_path]
    done = subprocess.run(
        [sys.executable, COMMAND, *options], env=env, capture_output=True, text=True, timeout=220, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, _, queued, running, *_ = (tmp_path / "plain_celery.md").read_text().splitlines()
    for line in (queued, running):
        plain, ours = line.strip("| ").split(" | ")[2:]
        assert "1× ended more than once" in plain
        assert ours == "1 accepted: nothing wrong"
    assert marked(env) == []
