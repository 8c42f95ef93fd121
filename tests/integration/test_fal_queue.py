"""`queue.fal.run`: a request is a job, looked at in fal's way."""

import httpx
import orjson
import pytest
from helpers import wait_until
from jobs import FAILURE, SUCCESS, TASK, append, running, submit
from web_tier import Watch, web_tier

from rankcast.tasks.catalog import TaskInfo
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import JobErrorInfo, Outcome
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.logs import JobLogs, LogLine
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore

QUEUE = f"/queue/{TASK}"


def requests(web: str, job_id: str, rest: str = "") -> str:
    return f"{web}{QUEUE}/requests/{job_id}{rest}"


def line(text: str, stream: str = "stdout", ts_ms: int = 1_771_410_600_123) -> LogLine:
    return LogLine(rank=0, host="h", stream=stream, text=text, ts_ms=ts_ms)  # type: ignore[arg-type]


@pytest.fixture
def logs(redis) -> JobLogs:
    return JobLogs(redis)


def test_a_submit_names_where_to_ask_again(web: str, store: JobStore) -> None:
    answer = httpx.post(f"{web}{QUEUE}", json={"prompt": "x"}, headers={"X-Fal-Queue-Priority": "low"})
    body = answer.json()
    job_id = body["request_id"]
    own = requests(web, job_id)
    assert answer.status_code == 200
    assert body == {
        "status": "IN_QUEUE",
        "request_id": job_id,
        "gateway_request_id": job_id,
        "queue_position": 0,
        "response_url": own,
        "status_url": f"{own}/status",
        "cancel_url": f"{own}/cancel",
    }
    assert answer.headers["x-fal-request-id"] == job_id
    record = store.record(job_id)
    assert (record.task, record.input, record.options.priority) == (TASK, {"prompt": "x"}, 9)


@pytest.mark.parametrize(
    ("path", "sent", "status", "detail"),
    [
        (QUEUE, {"json": {"promt": "x"}}, 422, "prompt"),
        (QUEUE, {"json": [1]}, 422, "must be an object"),
        (QUEUE, {"content": b"{"}, 400, "not JSON"),
        ("/queue/acme/stesp", {"json": {}}, 404, "no worker has ever registered a task named 'acme/stesp'"),
        (f"{QUEUE}/upscale", {"json": {}}, 404, "acme/steps/upscale"),
        ("/queue/steps", {"json": {}}, 404, "acme/steps"),
        (f"{QUEUE}?fal_webhook=https://a.example/x", {"json": {"prompt": "x"}}, 501, "webhooks"),
        (QUEUE, {"json": {"prompt": "x"}, "headers": {"X-Fal-Request-Timeout": "soon"}}, 400, "seconds"),
    ],
)
def test_a_submit_that_cannot_be_is_told_why(
    web: str, store: JobStore, path: str, sent: dict, status: int, detail: str
) -> None:
    answer = httpx.post(f"{web}{path}", **sent)
    assert answer.status_code == status
    assert detail in orjson.dumps(answer.json()["detail"]).decode()
    assert answer.headers["X-Fal-Error-Type"] == answer.json()["error_type"]
    assert store.list().records == []


def test_a_status_goes_from_the_queue_to_its_end(web: str, store: JobStore) -> None:
    """202 until the end, 200 from then on."""
    before = submit(store)
    job_id = submit(store)
    answer = httpx.get(requests(web, job_id, "/status"))
    assert answer.status_code == 202
    own = requests(web, job_id)
    assert answer.json() == {
        "status": "IN_QUEUE",
        "request_id": job_id,
        "queue_position": 1,
        "logs": None,
        "response_url": own,
        "status_url": f"{own}/status",
        "cancel_url": f"{own}/cancel",
    }
    running(store, before)
    claim = running(store, job_id)
    answer = httpx.get(requests(web, job_id, "/status/"))
    assert (answer.status_code, answer.json()["status"]) == (202, "IN_PROGRESS")
    store.finish(claim, Outcome(state=JobState.SUCCEEDED, output=b"7", metrics={"run_ms": 3420}), 1)
    answer = httpx.get(requests(web, job_id, "/status"))
    assert (answer.status_code, answer.json()["status"]) == (200, "COMPLETED")
    assert answer.json()["metrics"] == {"inference_time": 3.42}
    assert "error" not in answer.json()


@pytest.mark.parametrize("asked", ["1", "true", "True"])
def test_a_status_has_logs_for_whoever_asks(web: str, store: JobStore, logs: JobLogs, asked: str) -> None:
    """All of them each time, with fal's names."""
    claim = running(store)
    logs.append(claim.job_id, [line("a"), line("b", "stderr")])
    answer = httpx.get(requests(web, claim.job_id, f"/status?logs={asked}"))
    moment = {"source": "USER", "timestamp": "2026-02-18T10:30:00.123Z"}
    assert answer.json()["logs"] == [
        {"message": "a", "level": "STDOUT", **moment},
        {"message": "b", "level": "STDERR", **moment},
    ]
    for no in ("?logs=0", "?logs=false", ""):
        assert httpx.get(requests(web, claim.job_id, f"/status{no}")).json()["logs"] is None


def test_a_flag_that_is_none_is_refused(web: str, store: JobStore) -> None:
    answer = httpx.get(requests(web, submit(store), "/status?logs=maybe"))
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")
    assert "'maybe'" in answer.json()["detail"]


def test_a_status_stream_tells_each_change_and_new_lines_only(
    web: str, store: JobStore, event_log: EventLog, logs: JobLogs
) -> None:
    """It ends with the request."""
    job_id = submit(store)
    watch = Watch(web, f"{QUEUE}/requests/{job_id}/status/stream?logs=1")
    wait_until(lambda: b"IN_QUEUE" in watch.raw, "its place in the queue")
    claim = running(store, job_id)
    logs.append(job_id, [line("a")])
    append(event_log, claim, 2, "1")
    wait_until(lambda: b'"message":"a"' in watch.raw, "the first line")
    logs.append(job_id, [line("b")])
    store.finish(claim, SUCCESS, 2)
    watch.to_end()
    told = [orjson.loads(frame[6:]) for frame in watch.raw.split(b"\n\n") if frame.startswith(b"data: ")]
    states = [status["status"] for status in told]
    assert (states[0], states[-1]) == ("IN_QUEUE", "COMPLETED")
    assert states == sorted(states, key=["IN_QUEUE", "IN_PROGRESS", "COMPLETED"].index)
    assert [log["message"] for status in told for log in status["logs"]] == ["a", "b"]


def test_a_status_stream_of_what_has_ended_is_one_status(web: str, store: JobStore) -> None:
    claim = running(store)
    store.finish(claim, SUCCESS, 1)
    body = httpx.get(requests(web, claim.job_id, "/status/stream")).text
    assert body.count("data: ") == 1
    assert '"COMPLETED"' in body


@pytest.mark.parametrize("rest", ["", "/", "/response", "/response/"])
def test_a_result_is_the_bare_output(web: str, store: JobStore, rest: str) -> None:
    claim = running(store)
    early = httpx.get(requests(web, claim.job_id, rest))
    assert (early.status_code, early.json()["detail"]) == (400, "Request is still in progress")
    store.finish(claim, SUCCESS, 1)
    answer = httpx.get(requests(web, claim.job_id, rest))
    assert (answer.status_code, answer.json()) == (200, {"done": True})
    assert answer.headers["x-fal-request-id"] == claim.job_id


def test_a_failed_request_is_completed_with_an_error(web: str, store: JobStore) -> None:
    claim = running(store)
    store.finish(claim, FAILURE, 1)
    status = httpx.get(requests(web, claim.job_id, "/status"))
    assert status.status_code == 200
    told = {name: status.json()[name] for name in ("status", "error", "error_type")}
    assert told == {"status": "COMPLETED", "error": "boom", "error_type": "runner_server_error"}
    answer = httpx.get(requests(web, claim.job_id))
    assert (answer.status_code, answer.json()["detail"]) == (500, "boom")


def test_one_that_did_not_start_in_time_says_that_it_is_not_to_be_sent_again(
    web: str, store: JobStore
) -> None:
    claim = running(store)
    error = JobErrorInfo(kind="start_timeout", message="late")
    store.finish(claim, Outcome(state=JobState.FAILED, error=error), 1)
    answer = httpx.get(requests(web, claim.job_id))
    assert (answer.status_code, answer.json()["error_type"]) == (504, "request_timeout")
    assert answer.headers["X-Fal-Request-Timeout-Type"] == "user"


def test_a_cancel_ends_what_waits_and_asks_what_runs(web: str, store: JobStore) -> None:
    waits, claim = submit(store), running(store)
    answer = httpx.put(requests(web, waits, "/cancel"))
    assert (answer.status_code, answer.json()) == (200, {"status": "OK"})
    answer = httpx.put(requests(web, claim.job_id, "/cancel/"))
    assert (answer.status_code, answer.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    again = httpx.put(requests(web, waits, "/cancel"))
    assert (again.status_code, again.json()["status"]) == (400, "ALREADY_COMPLETED")
    status = httpx.get(requests(web, waits, "/status")).json()
    assert (status["status"], status["error_type"]) == ("COMPLETED", "client_cancelled")
    assert httpx.get(requests(web, waits)).status_code == 499


@pytest.mark.parametrize("rest", ["", "/status", "/status/stream"])
def test_a_request_of_another_app_is_unknown(web: str, store: JobStore, rest: str) -> None:
    job_id = submit(store)
    for path in (f"/queue/acme/other/requests/{job_id}", f"{QUEUE}/requests/{'0' * 32}"):
        answer = httpx.get(f"{web}{path}{rest}")
        assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found")
    assert httpx.put(f"{web}/queue/acme/other/requests/{job_id}/cancel").status_code == 404
    assert store.record(job_id).state == JobState.QUEUED


def test_longer_ids_are_understood_too(web: str, store: JobStore) -> None:
    """Clients drop the path of the endpoint; pages of fal's have it."""
    answer = httpx.get(f"{web}{QUEUE}/fast/requests/{submit(store)}/status")
    assert answer.status_code == 202


def test_who_leaves_a_status_stream_is_let_go(web: str, redis, store: JobStore) -> None:
    """And cancels nothing: a request in the queue belongs to nobody's connection."""
    job_id = submit(store)
    watch = Watch(web, f"{QUEUE}/requests/{job_id}/status/stream")
    watch.until(1)
    watch.leave()
    channel = JobKeys(job_id).live
    wait_until(lambda: dict(redis.pubsub_numsub(channel)) == {channel.encode(): 0}, "the hub to let go")
    assert store.record(job_id).state == JobState.QUEUED


def test_a_status_stream_of_a_server_that_ends_breaks(
    valkey_url: str, task: TaskInfo, store: JobStore
) -> None:
    """A client takes an end in order for the end of the request."""
    job_id = submit(store)
    with web_tier(valkey_url, GUNICORN_CMD_ARGS="--graceful-timeout 3") as leaving:
        watch = Watch(leaving.url, f"{QUEUE}/requests/{job_id}/status/stream")
        watch.until(1)
        leaving.process.terminate()
        watch.to_break()
        leaving.process.wait(30)
