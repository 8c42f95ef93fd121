"""docs/clients.md and the tests are the same, so that neither can say more than the other."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import redis as redis_py
from helpers import wait_until
from jobs import FAILURE, SUCCESS, running
from playwright.sync_api import Page
from web_tier import WebTier

from clients.programs import HERE
from rankcast.tasks.catalog import Catalog, TaskInfo
from rankcast.tasks.job import new_token
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore

ROOT = HERE.parents[1]
DOC = (ROOT / "docs" / "clients.md").read_text()


@cache
def collected() -> list[str]:
    """The id of every test in this folder."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", str(HERE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "::" in line]


def cells() -> set[str]:
    """Each ✓ of the table, as the test that it stands for."""
    [table] = re.findall(r"^\| client \|.*?(?=\n\n)", DOC, re.MULTILINE | re.DOTALL)
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert {cell for row in rows for cell in row[1:]} == {"✓"}
    clients = [re.findall(r"`(.+)`", row[0])[0] for row in rows]
    columns = [column.lower().replace(" ", "_") for column in head[1:]]
    return {f"test_{column}[{client}]" for column in columns for client in clients}


def test_every_cell_is_a_test_and_every_test_a_cell() -> None:
    ran = {test.partition("::")[2] for test in collected() if "test_conformance.py" in test}
    assert cells() == ran


def test_every_limit_names_the_test_that_shows_it() -> None:
    """And every test of a limit stands there."""
    limits = DOC[DOC.index("What they cannot do") : DOC.index("## Python")]
    named = set(re.findall(r"`(test_\w+)`", limits))
    exist = {re.sub(r".*::(\w+).*", r"\1", test): test for test in collected()}
    assert named - {*exist} == set()
    assert {name for name, test in exist.items() if "test_limits.py" in test} - named == set()


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", DOC)
    assert [link for link in links if not (Path(ROOT, "docs") / link).exists()] == []


def test_the_loop_for_httpx_sse_works_as_it_stands(
    tier: WebTier, store: JobStore, capsys: pytest.CaptureFixture[str]
) -> None:
    claim = running(store)
    store.finish(claim, SUCCESS, 1)
    [code] = re.findall(r"```python\n(import time.*?)```", DOC, re.DOTALL)
    exec(code.replace("http://127.0.0.1:8700", tier.url), {"job_id": claim.job_id})
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["state", "state", "end"]


def test_the_page_works_as_it_stands(
    page: Page, tier: WebTier, redis: redis_py.Redis, store: JobStore
) -> None:
    """At a job that somebody works on as soon as it is there."""
    Catalog(redis, Settings()).register([TaskInfo(name="examples/steps", world_size=1, input_schema={})])
    [code] = re.findall(r'<script type="module">\n(.*?)</script>', DOC, re.DOTALL)
    told: list[str] = []
    # What the browser itself notes of the failed job's 500 is an "error".
    page.on("console", lambda message: told.append(message.text) if message.type == "log" else None)
    page.goto(f"{tier.url}/healthz")
    with page.expect_response("**/jobs") as answer:
        page.add_script_tag(type="module", content=code)
    job_id = answer.value.json()["job_id"]
    claim = store.claim(task="examples/steps", token=new_token(), worker="w1", job_id=job_id, is_warm=True)
    assert claim is not None
    store.start(claim)
    store.finish(claim, FAILURE, 1)
    # Any call lets what the page has told in.
    wait_until(lambda: [page.title()] and "boom" in told, f"what the page says after {told}")
    assert [line.split()[1] for line in told[:-1]] == ["state", "state", "end"]
