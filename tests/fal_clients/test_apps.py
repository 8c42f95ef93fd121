"""`fal.apps`, of fal's own package, asks our server as it asks fal's."""

import json
from pathlib import Path
from typing import Any

import pytest
from api_keys import give
from web_tier import web_tier

from fal_clients.programs import System, fal_package

OUTPUT = {"prompt": "a cat", "steps": 3}


@pytest.fixture(scope="module")
def told(system: System) -> dict[str, Any]:
    """By the name of each way that drivers/apps.py tries."""
    return dict(system.run("apps.py", python=fal_package()))


def test_it_runs_a_job_by_both_forms_of_an_id(told: dict[str, Any]) -> None:
    assert told["run"] == told["run_by_old_name"] == OUTPUT


def test_it_follows_a_request_to_its_end(told: dict[str, Any]) -> None:
    """Its statuses come in order, the end by the answer's code alone; the log lines are all there."""
    seen, last, lines, error, output = told["follow"]
    assert seen == sorted(seen, key=["Queued", "InProgress"].index)
    assert "InProgress" in seen
    assert last == "Completed"
    assert {"step 1", "step 4", "done"} <= set(lines)
    assert error is None
    assert output == {"prompt": "a cat", "steps": 4}


def test_it_finds_a_request_by_its_id(told: dict[str, Any]) -> None:
    assert told["known_by_id"] == {"prompt": "a dog", "steps": 3}


def test_it_outlasts_twenty_seconds_of_silence(told: dict[str, Any]) -> None:
    assert told["silent"] == {"silent_for_s": 20.0}


def test_it_streams_lines(told: dict[str, Any]) -> None:
    frames = [json.loads(line.removeprefix("data: ")) for line in told["stream"] if line.startswith("data: ")]
    assert frames == [*({"step": step} for step in (1, 2, 3)), OUTPUT]
    assert told["stream_plain"] == OUTPUT


def test_a_failed_job_raises_and_is_told(told: dict[str, Any]) -> None:
    """The request is completed, with its error; its result is refused. A stream of it breaks."""
    last, error, error_type, refused = told["fails"]
    assert last == "Completed"
    assert "cannot draw 'a cat'" in error
    assert error_type == "runner_server_error"
    assert refused[:2] == ["HTTPStatusError", 500]
    assert "cannot draw 'a cat'" in refused[2]["detail"]
    assert told["stream_fails"] == ["RemoteProtocolError"]


def test_requests_that_wait_and_that_run_are_cancelled(told: dict[str, Any]) -> None:
    """Each is at its end soon, so that who polls it ends; to cancel it once more is refused."""
    positions, refusals, again = told["cancelled"]
    assert positions
    assert set(positions) <= set(range(6))
    assert [refused[:2] for refused in refusals] == [["HTTPStatusError", 499]] * 6
    assert {refused[2]["error_type"] for refused in refusals} == {"client_cancelled"}
    assert again[:2] == ["HTTPStatusError", 400]


def test_what_cannot_be_is_refused_at_once(told: dict[str, Any]) -> None:
    """An input that does not fit, with its place; a task and a request that nobody knows."""
    assert told["bad_input"][:2] == ["HTTPStatusError", 422]
    assert [fault["loc"] for fault in told["bad_input"][2]["detail"]] == [["body", "steps"]]
    assert told["unknown_task"][:2] == told["unknown_request"][:2] == ["HTTPStatusError", 404]


def test_with_keys_it_shows_its_own_behind_an_id(system: System, valkey_url: str, tmp_path: Path) -> None:
    """It takes no key that has no colon."""
    path = tmp_path / "keys"
    alice = give(path, "alice")
    with web_tier(valkey_url, tls=system.web.tls, RANKCAST_KEYS=str(path)) as web:
        keyed = system._replace(web=web)
        told = keyed.run("apps.py", "run", python=fal_package(), FAL_KEY=f"any:{alice.text}")
    assert told == [["run", OUTPUT]]
