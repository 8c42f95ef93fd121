"""fal's Python client, its functions and their asynchronous twins, asks our server as it asks fal's."""

from typing import Any

import pytest

from fal_clients.programs import System

OUTPUT = {"prompt": "a cat", "steps": 3}
STEPS = [{"step": step} for step in (1, 2, 3)]
REFUSED = "FalClientHTTPError"


@pytest.fixture(scope="module", params=[False, True], ids=["sync", "async"])
def told(system: System, request: pytest.FixtureRequest) -> dict[str, Any]:
    """By the name of each way that drivers/python.py tries."""
    return dict(system.run("python.py", request.param))


def test_it_runs_a_job(told: dict[str, Any]) -> None:
    assert told["run"] == OUTPUT


def test_it_follows_a_request_to_its_end(told: dict[str, Any]) -> None:
    follow = told["follow"]
    assert follow["seen"] == sorted(follow["seen"], key=["Queued", "InProgress", "Completed"].index)
    assert {"InProgress", "Completed"} <= set(follow["seen"])
    assert follow["lines"].count("step 4") == 1
    assert {"step 1", "step 4", "done"} <= set(follow["lines"])
    assert follow["line"].keys() == {"message", "level", "source", "timestamp"}
    assert follow["metrics"]["inference_time"] >= 4 * 0.3
    assert follow["plain"] == ["Completed", None, None]
    assert follow["outputs"] == [{"prompt": "a cat", "steps": 4}] * 2


def test_it_subscribes(told: dict[str, Any]) -> None:
    """It is told of the id once, of each status, and of all lines."""
    subscribe = told["subscribe"]
    assert subscribe["output"] == {"prompt": "a cat", "steps": 4}
    assert len(subscribe["ids"]) == 1
    assert {"step 1", "step 4", "done"} <= set(subscribe["lines"])
    assert subscribe["kinds"][-1] == "Completed"


def test_it_streams(told: dict[str, Any]) -> None:
    """The last event is the output."""
    assert told["stream"] == [*STEPS, OUTPUT]


def test_another_path_is_another_endpoint(told: dict[str, Any]) -> None:
    """In an id or beside it, by each way to ask."""
    twice = {"prompt": "a cat", "times": 2}
    assert told["stream_of_another_path"] == [{"time": 1}, {"time": 2}, twice]
    assert told["run_of_another_path"] == told["submit_of_another_path"] == [twice, twice]


def test_it_outlasts_twenty_seconds_of_silence(told: dict[str, Any]) -> None:
    output = {"silent_for_s": 20.0}
    assert told["silent_stream"] == [{"began": True}, output]
    assert told.get("silent_run", told.get("silent_subscribe")) == output


def test_a_failed_job_raises(told: dict[str, Any]) -> None:
    """And is completed, with its error."""
    fails = told["fails"]
    for way in ("run", "get", "subscribe"):
        assert fails[way][:3] == [REFUSED, 500, "runner_server_error"]
        assert "cannot draw 'a cat'" in fails[way][3]
    name, error, error_type = fails["status"]
    assert (name, error_type) == ("Completed", "runner_server_error")
    assert "cannot draw 'a cat'" in error


def test_the_stream_of_a_failed_job_breaks(told: dict[str, Any]) -> None:
    """After what the job streamed, and what went wrong."""
    error, came = told["stream_fails"]
    assert error == "RemoteProtocolError"
    assert came[0] == {"step": 1}
    assert "cannot draw 'a cat'" in came[1]["error"]["message"]
    assert len(came) == 2


def test_an_input_that_does_not_fit_is_told_with_its_place(told: dict[str, Any]) -> None:
    """A stream's client keeps nothing of a refusal but that it is no stream."""
    for way in ("run", "submit"):
        assert told["bad_input"][way][:3] == [REFUSED, 422, "bad_request"]
        assert [fault["loc"] for fault in told["bad_input"][way][3]] == [["body", "steps"]]
    assert told["bad_input"]["stream"] == ["SSEError"]


def test_what_is_not_there_is_said(told: dict[str, Any]) -> None:
    unknown = told["unknown"]
    for way in ("run", "submit", "status"):
        assert unknown[way][:3] == [REFUSED, 404, "not_found"]
    assert "acme/nothing" in unknown["run"][3]
    assert unknown["stream"] == ["SSEError"]
    assert unknown["webhook"][:3] == [REFUSED, 501, "not_implemented"]


def test_a_request_is_cancelled_by_its_handle_and_by_its_id(told: dict[str, Any]) -> None:
    by_handle, by_id, again = told["cancelled"]
    assert by_handle[:3] == by_id[:3] == [REFUSED, 499, "client_cancelled"]
    assert again[:2] == [REFUSED, 400]


def test_a_client_that_gives_up_cancels_and_comes_to_an_end(system: System, told: dict[str, Any]) -> None:
    name, request_id = told["client_timeout"]
    assert name == "FalClientTimeoutError"
    assert system.site.wait_ended(request_id).state == "cancelled"
