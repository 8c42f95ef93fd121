"""fal's JavaScript client asks our server as it asks fal's: on Node by either way to point it here, and from
a page of another origin."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from clients.programs import CHROMIUM, HERE, NODE, skip_if_missing
from helpers import clean_env
from playwright.sync_api import sync_playwright
from web_tier import web_tier

from fal_clients.programs import DRIVERS, System

OUTPUT = {"prompt": "a cat", "steps": 3}
STEPS = [{"step": step} for step in (1, 2, 3)]
LONG_OUTPUT = {"prompt": "a cat", "steps": 4}
#: Of the job whose request is aborted: its input, which nobody else has.
MARKS = {"middleware": 601, "proxy": 602, "page": 603}
BUNDLE_TIMEOUT_S = 60


@pytest.fixture(scope="module", params=list(MARKS))
def how(request: pytest.FixtureRequest) -> str:
    """How the client is pointed here."""
    return str(request.param)


@pytest.fixture(scope="module")
def told(system: System, how: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """By the name of each way that drivers/ways.mjs tries."""
    if how == "page":
        return dict(request.getfixturevalue("told_in_a_page"))
    return dict(system.run("javascript.mjs", how, MARKS[how]))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client and what is tried with it in one file, as pages load it."""
    skip_if_missing("eventsource-npm")
    made = tmp_path_factory.mktemp("bundle") / "in_page.js"
    esbuild = HERE / "node_modules" / ".bin" / "esbuild"
    subprocess.run(
        [esbuild, DRIVERS / "in_page.mjs", "--bundle", "--log-level=warning", f"--outfile={made}"],
        # It may be a script that Node runs.
        env=clean_env(PATH=os.pathsep.join([str(NODE.parent), os.environ["PATH"]])),
        check=True,
        timeout=BUNDLE_TIMEOUT_S,
    )
    return made


@pytest.fixture(scope="module")
def told_in_a_page(system: System, valkey_url: str, bundle: Path) -> list[Any]:
    """Of a page that another server serves, in Chromium; `--cors` names its origin."""
    skip_if_missing("javascript-chromium")
    with (
        web_tier(valkey_url, tls=system.web.tls) as home,
        web_tier(
            valkey_url, tls=system.web.tls, RANKCAST_CORS=home.url, RANKCAST_SHARED=system.shared
        ) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        # It has no other way to be told of the tests' authority.
        page = browser.new_page(ignore_https_errors=True)
        page.goto(f"{home.url}/healthz")
        page.add_script_tag(path=bundle)
        found: list[Any] = page.evaluate("([base, mark]) => tryAll(base, mark)", [server.url, MARKS["page"]])
        browser.close()
    return found


def test_it_runs_a_job(told: dict[str, Any]) -> None:
    assert told["run"] == {"data": OUTPUT, "has_id": True}
    assert told["run_of_another_path"] == {"prompt": "a cat", "times": 2}


def test_a_blob_in_an_input_is_uploaded(told: dict[str, Any]) -> None:
    assert told["blob"] == "hello from a blob"


@pytest.mark.parametrize("way", ["subscribe", "subscribe_streaming"])
def test_it_subscribes(told: dict[str, Any], way: str) -> None:
    """By polling or by a stream: it is told of the id, of each status, and of each line once."""
    subscribe = told[way]
    assert (subscribe["data"], subscribe["is_same"]) == (LONG_OUTPUT, True)
    assert subscribe["kinds"][-1] == "COMPLETED"
    assert "IN_PROGRESS" in subscribe["kinds"]
    steps = [line for line in subscribe["lines"] if line.startswith("step ")]
    assert sorted(set(steps)) == ["step 1", "step 2", "step 3", "step 4"]
    assert len(steps) == 4


def test_it_uses_the_queue(told: dict[str, Any]) -> None:
    queue = told["queue"]
    assert queue["seen"][-1] == queue["status"] == "COMPLETED"
    assert (queue["data"], queue["is_same"]) == ({"prompt": "a cat", "times": 2}, True)


def test_it_streams(told: dict[str, Any]) -> None:
    """To listeners and iterators alike; it is done with the last event, the output."""
    assert told["stream"] == {
        "heard": [*STEPS, OUTPUT],
        "iterated": [*STEPS, OUTPUT],
        "done": ["none", OUTPUT],
    }


def test_it_outlasts_twenty_seconds_of_silence(told: dict[str, Any]) -> None:
    output = {"silent_for_s": 20}
    assert told["silent_stream"]["heard"] == [{"began": True}, output]
    assert told["silent_status"] == output


def test_a_failed_job_rejects(told: dict[str, Any]) -> None:
    fails = told["fails"]
    for way in ("run", "subscribe", "streaming"):
        name, status, error_type, detail = fails[way]
        assert (name, status, error_type) == ("ApiError", 500, "runner_server_error"), way
        assert "cannot draw 'a cat'" in detail


def test_the_stream_of_a_failed_job_breaks(told: dict[str, Any]) -> None:
    """After what the job streamed, and what went wrong."""
    stream = told["fails"]["stream"]
    step, error = stream["heard"]
    assert step == {"step": 1}
    assert "cannot draw 'a cat'" in error["error"]["message"]
    assert stream["done"][0] == "ApiError"


def test_an_input_that_does_not_fit_is_told_with_its_place(told: dict[str, Any]) -> None:
    for way, refused in told["bad_input"].items():
        assert refused == ["ValidationError", 422, "bad_request", [["body", "steps"]]], way


def test_what_is_not_there_is_said(told: dict[str, Any]) -> None:
    unknown = told["unknown"]
    assert unknown.pop("webhook")[:3] == ["ApiError", 501, "not_implemented"]
    for way, refused in unknown.items():
        assert refused[:3] == ["ApiError", 404, "not_found"], way


def test_a_request_is_cancelled(told: dict[str, Any]) -> None:
    cancelled = told["cancelled"]
    assert cancelled["status"] == ["COMPLETED", "client_cancelled"]
    assert cancelled["result"][:3] == ["ApiError", 499, "client_cancelled"]
    assert cancelled["again"][:2] == ["ApiError", 400]


def test_who_aborts_a_run_cancels_it(system: System, told: dict[str, Any], how: str) -> None:
    assert told["aborted"] != "none"
    store = system.site.store
    jobs = [store.record(each.job_id) for each in store.list(task="acme/silent").records]
    (job_id,) = [job.job_id for job in jobs if job.input == {"for_s": MARKS[how]}]
    assert system.site.wait_ended(job_id).state == "cancelled"


def test_the_page_on_fal_points_the_client_here_as_these_tests_do() -> None:
    page = (DRIVERS.parents[2] / "docs" / "fal.md").read_text()
    (block,) = re.findall(r"^```js\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    driver = (DRIVERS / "javascript.mjs").read_text()
    said, done = (
        {line.strip() for line in text.splitlines() if "services" in line}
        for text in (block.replace("https://127.0.0.1:8700$", "${base}$"), driver)
    )
    assert len(said) == 3
    assert said == done
