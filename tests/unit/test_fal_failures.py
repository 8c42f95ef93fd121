import pytest

from rankcast.tasks.state import JobState
from rankcast.web.fal.failures import failure, fault


@pytest.mark.parametrize(
    ("kind", "status", "error_type"),
    [
        ("exception", 500, "runner_server_error"),
        ("exited", 500, "runner_server_error"),
        ("group_lost", 500, "runner_disconnected"),
        ("worker_lost", 500, "runner_disconnected"),
        ("start_timeout", 504, "request_timeout"),
        ("run_timeout", 504, "request_timeout"),
        ("setup_timeout", 504, "startup_timeout"),
        ("a kind of next year", 500, "runner_server_error"),
    ],
)
def test_each_end_has_its_status_and_type(kind: str, status: int, error_type: str) -> None:
    found = failure(JobState.FAILED, {"kind": kind, "message": "so it was"})
    assert (found.status, found.error_type, found.detail) == (status, error_type, "so it was")


@pytest.mark.parametrize(
    "kind", ["start_timeout", "run_timeout", "setup_timeout", "worker_lost", "exception"]
)
def test_no_client_runs_it_again(kind: str) -> None:
    """fal's clients send a run again for these, unless a 504 says that the time-out was their own."""
    found = failure(JobState.FAILED, {"kind": kind, "message": ""})
    assert found.status not in (408, 409, 429, 502, 503)
    assert found.status != 504 or found.headers["X-Fal-Request-Timeout-Type"] == "user"


def test_a_cancelled_job_is_one_whose_client_closed_the_request() -> None:
    found = failure(JobState.CANCELLED, {"kind": "cancelled", "message": "cancelled while it ran"})
    assert (found.status, found.error_type) == (499, "client_cancelled")


def test_an_input_that_did_not_fit_is_a_list_of_faults() -> None:
    found = failure(JobState.FAILED, {"kind": "invalid_input", "message": "$.steps: is too large"})
    assert found.status == 422
    assert found.detail[0]["msg"] == "$.steps: is too large"


def test_a_fault_is_located_as_pydantic_does() -> None:
    assert fault("$.a[3].b", "no")["loc"] == ["body", "a", 3, "b"]
    assert fault("$", "no")["loc"] == ["body"]
