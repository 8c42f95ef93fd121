"""The harness behind `make reliability` breaks a real deployment and measures it; here its quickest rows.

That it says how long things took is looked at; how long they took is not.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import clean_env, marked

HARNESS = Path(__file__).parents[2] / "benchmarks" / "reliability.py"


@pytest.mark.timeout(400)
def test_a_round_of_faults_gives_figures_and_leaves_no_process(tmp_path: Path):
    """Redis killed on a quick disk and a slow one, ranks killed, a job cancelled: a figure for each way,
    nothing wrong or lost, both files written. The slow disk needs a C compiler."""
    env = clean_env()
    rows = ["redis-killed", "rank-killed", "cancel"]
    done = subprocess.run(
        [sys.executable, HARNESS, "--rows", ",".join(rows), "--rounds", "1", "--results", tmp_path],
        env=env,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    told = json.loads((tmp_path / "reliability.json").read_text())["rows"]
    assert [row["key"] for row in told] == rows, done.stdout + done.stderr
    for row in told:
        for way in row["contenders"]:
            assert (way["fault"], way["missing"]) == (None, None)
            assert [all(value >= 0 for value in each["figures"].values()) for each in way["rounds"]] == [True]
    killed = [way["rounds"][0]["figures"] for way in told[0]["contenders"]]
    assert [figures["lost"] for figures in killed] == [0, 0]
    assert killed[1]["forgotten"] > 0, "the slow disk forgot nothing, so this shows nothing"
    assert "cancel at a step boundary" in (tmp_path / "reliability.md").read_text()
    assert marked(env) == []
