"""`fal.run`: the output in the answer, or a stream; the job belongs to the connection."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from helpers import wait_until
from jobs import FAILURE, SUCCESS, TASK, append, running, starting
from web_tier import Watch, web_tier

from rankcast.tasks.catalog import TaskInfo
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import JobErrorInfo, Outcome
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore

INPUT = {"prompt": "x"}
RUN = f"/run/{TASK}"


class Call:
    """A `run` under way, in a thread of its own."""

    def __init__(self, url: str, **sent: Any) -> None:
        self.answer: httpx.Response | None = None
        self._thread = threading.Thread(target=self._post, args=(url, sent), daemon=True)
        self._thread.start()

    def _post(self, url: str, sent: dict[str, Any]) -> None:
        self.answer = httpx.post(url, timeout=30, **sent)

    def answered(self) -> httpx.Response:
        self._thread.join(30)
        assert self.answer is not None
        return self.answer


def only_job(store: JobStore) -> str:
    return wait_until(lambda: [record.job_id for record in store.list().records], "a job")[0]


def test_the_answer_is_the_output(web: str, store: JobStore, event_log: EventLog) -> None:
    call = Call(f"{web}{RUN}", json=INPUT)
    claim = running(store, only_job(store))
    append(event_log, claim, 2, '{"step":1}')
    store.finish(claim, SUCCESS, 2)
    answer = call.answered()
    assert (answer.status_code, answer.json()) == (200, {"done": True})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["x-fal-request-id"] == claim.job_id


@pytest.mark.parametrize(
    ("outcome", "status", "error_type"),
    [
        (FAILURE, 500, "runner_server_error"),
        (
            Outcome(state=JobState.FAILED, error=JobErrorInfo(kind="invalid_input", message="steps is odd")),
            422,
            "bad_request",
        ),
        (
            Outcome(state=JobState.FAILED, error=JobErrorInfo(kind="run_timeout", message="too slow")),
            504,
            "request_timeout",
        ),
    ],
)
def test_a_failure_is_an_error_in_fals_form(
    web: str, store: JobStore, outcome: Outcome, status: int, error_type: str
) -> None:
    call = Call(f"{web}{RUN}", json=INPUT)
    store.finish(running(store, only_job(store)), outcome, 1)
    answer = call.answered()
    assert (answer.status_code, answer.json()["error_type"]) == (status, error_type)
    assert answer.headers["X-Fal-Error-Type"] == error_type
    assert ("X-Fal-Request-Timeout-Type" in answer.headers) is (status == 504)


def test_a_cancelled_job_is_answered_with_499(web: str, store: JobStore) -> None:
    call = Call(f"{web}{RUN}", json=INPUT)
    store.cancel(only_job(store))
    assert call.answered().status_code == 499


def test_what_cannot_be_is_refused_before_there_is_a_job(web: str, store: JobStore) -> None:
    for path, sent, status in (
        (RUN, {"json": {"prompt": 1}}, 422),
        (f"{RUN}/stream", {"json": {"prompt": 1}}, 422),
        ("/run/acme/stesp", {"json": INPUT}, 404),
        ("/run/steps", {"json": INPUT}, 404),
        (f"{RUN}?detach=maybe", {"json": INPUT}, 400),
        (f"{RUN}/realtime", {"json": INPUT}, 501),
        ("/rest/tokens/", {"json": {"allowed_apps": ["steps"]}}, 501),
    ):
        answer = httpx.post(f"{web}{path}", **sent)
        assert answer.status_code == status, path
        assert {"detail", "error_type"} == answer.json().keys()
        assert answer.headers["x-fal-request-id"]
    assert store.list().records == []


@pytest.mark.parametrize(
    ("path", "status"), [(RUN, 405), (f"{RUN}/realtime", 501), ("/queue/a/b", 405), ("/rest/a", 404)]
)
def test_what_is_not_there_is_told_in_fals_form(web: str, path: str, status: int) -> None:
    answer = httpx.get(f"{web}{path}")
    assert answer.status_code == status
    assert answer.headers["X-Fal-Error-Type"] == answer.json()["error_type"]


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        (f"{RUN}/stream", "*/*"),
        (f"{RUN}/stream/", "application/json"),
        (RUN, "text/event-stream"),
        (RUN, "application/json, text/event-stream"),
    ],
)
def test_a_stream_is_one_by_its_path_or_by_what_its_client_takes(
    web: str, store: JobStore, path: str, accept: str
) -> None:
    watch = Watch(web, path, post=INPUT, headers={"Accept": accept})
    job_id = watch.headers["x-fal-request-id"]
    assert job_id == watch.headers["X-Rankcast-Job-Id"]
    store.finish(running(store, job_id), SUCCESS, 1)
    assert [frame.json for frame in watch.to_end()] == [{"done": True}]


def test_headers_ask_for_what_a_job_may_be_asked_for(web: str, store: JobStore) -> None:
    headers = {"X-Fal-Request-Start-Timeout": "7", "X-Fal-Runner-Hint": "warm"}
    call = Call(f"{web}{RUN}", json=INPUT, headers=headers)
    job_id = only_job(store)
    assert store.record(job_id).options.start_timeout_s == 7
    store.finish(running(store, job_id), SUCCESS, 1)
    assert call.answered().status_code == 200


@contextmanager
def gone(web: str, path: str) -> Iterator[Callable[[], None]]:
    """A client that has sent its request, and hangs up when it is told to; it never gets an answer."""
    address = httpx.URL(web)
    with socket.create_connection((address.host, address.port)) as sock:
        body = b'{"prompt": "x"}'
        sock.sendall(
            b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
            % (path.encode(), len(body), body)
        )
        yield sock.close


def test_who_hangs_up_cancels_its_job(web: str, store: JobStore) -> None:
    """Nothing is ever written before the answer that would find it out."""
    with gone(web, RUN) as hang_up:
        job_id = only_job(store)
        claim = running(store, job_id)
        assert not store.record(job_id).is_cancel_requested
        hang_up()
        wait_until(lambda: store.record(job_id).is_cancel_requested, "the job to be cancelled")
    store.finish(claim, FAILURE, 1)


def test_who_hangs_up_while_its_job_is_queued_takes_it_back(web: str, store: JobStore) -> None:
    with gone(web, RUN) as hang_up:
        job_id = only_job(store)
        hang_up()
        wait_until(lambda: store.record(job_id).state == JobState.CANCELLED, "the job to be cancelled")


def test_a_detached_job_goes_on(web: str, store: JobStore) -> None:
    with gone(web, f"{RUN}?detach=1") as hang_up:
        detached = only_job(store)
        hang_up()
    # Whose hang-up is seen later than the other's.
    with gone(web, RUN) as hang_up:
        tied = wait_until(
            lambda: [each.job_id for each in store.list().records if each.job_id != detached], "another job"
        )[0]
        hang_up()
        wait_until(lambda: store.record(tied).state == JobState.CANCELLED, "the other to be cancelled")
    assert store.record(detached).state == JobState.QUEUED


def test_a_server_that_ends_says_where_the_result_will_be(
    valkey_url: str, task: TaskInfo, store: JobStore
) -> None:
    """500 and not 503, for which a client would run the job once more."""
    with web_tier(valkey_url, GUNICORN_CMD_ARGS="--graceful-timeout 3") as leaving:
        call = Call(f"{leaving.url}{RUN}", json=INPUT)
        job_id = only_job(store)
        claim = starting(store, job_id)
        leaving.process.terminate()
        answer = call.answered()
        leaving.process.wait(30)
    assert answer.status_code == 500
    assert f"/queue/{TASK}/requests/{job_id}" in answer.json()["detail"]
    assert answer.headers["x-fal-request-id"] == job_id
    assert store.start(claim) is False


def test_a_server_that_ends_still_answers_what_is_soon_done(
    valkey_url: str, task: TaskInfo, store: JobStore
) -> None:
    with web_tier(valkey_url) as leaving:
        call = Call(f"{leaving.url}{RUN}", json=INPUT)
        claim = running(store, only_job(store))
        resumable = Watch(leaving.url, f"/jobs/{claim.job_id}/stream")
        leaving.process.terminate()
        resumable.to_end()
        store.finish(claim, SUCCESS, 1)
        assert call.answered().json() == {"done": True}
