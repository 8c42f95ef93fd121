"""Every row of the HTTP table, and every way to be refused."""

import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
import redis as redis_py
from jobs import FAILURE, SUCCESS, TASK, announce, append, running, starting, submit
from web_tier import told

from rankcast.tasks import keys
from rankcast.tasks.catalog import Catalog, SlotInfo, TaskInfo, WorkerInfo
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Outcome
from rankcast.tasks.logs import JobLogs, LogLine
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore

WORKER = WorkerInfo(
    worker_id="w1",
    host="gpu1",
    pid=7,
    started_ms=1_700_000_000_000,
    version="0.1.0",
    tasks=[TASK],
    slots=[SlotInfo(index=0, devices=[0, 1], state="busy", warm=TASK, job_id="j")],
)


@pytest.fixture
def http(web: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=web, timeout=30) as client:
        yield client


@pytest.fixture
def catalog(redis: redis_py.Redis, settings: Settings) -> Catalog:
    return Catalog(redis, settings)


# What works


@pytest.mark.parametrize(
    "path", ["/jobs", "/stream?detach=1", f"/run/{TASK}/stream?detach=1", f"/queue/{TASK}"]
)
def test_a_job_tells_how_long_its_post_took(http: httpx.Client, store: JobStore, path: str) -> None:
    """By whichever route it came; from the head of the request on, so with the time that its body takes."""
    body = orjson.dumps({"task": TASK, "input": {"prompt": "x"}} if path == "/jobs" else {"prompt": "x"})

    def slowly() -> Iterator[bytes]:
        yield body[:-1]
        # The head may be read a little later than it was sent.
        time.sleep(0.3)
        yield body[-1:]

    with http.stream("POST", path, content=slowly()):
        [record] = store.list().records
    timings = http.get(f"/jobs/{record.job_id}").json()["timings"]
    assert list(timings) == ["posted", "created"]
    assert timings["posted"] == 0
    assert timings["created"] >= 200
    store.cancel(record.job_id)


def test_a_submit_is_queued_and_says_where_everything_is(http: httpx.Client, store: JobStore) -> None:
    """202 with Location, the job's place in the queue, who serves it, and all its URLs."""
    response = http.post("/jobs", json={"task": TASK, "input": {"prompt": "x"}, "options": {"priority": 1}})
    body = response.json()
    assert response.status_code == 202
    assert response.headers["Location"] == body["urls"]["self"] == f"/jobs/{body['job_id']}"
    assert {name: body[name] for name in ("task", "state", "queue_position", "attempt", "workers")} == {
        "task": TASK,
        "state": "queued",
        "queue_position": 0,
        "attempt": 0,
        "workers": 0,
    }
    assert set(body["urls"]) == {"self", "stream", "result", "cancel", "logs", "artifacts"}
    assert store.record(body["job_id"]).options.priority == 1


def test_a_submit_counts_the_workers_that_serve_its_task(http: httpx.Client, catalog: Catalog) -> None:
    """0 tells a client at once why nothing will happen for now."""
    catalog.heartbeat(WORKER)
    assert http.post("/jobs", json={"task": TASK, "input": {"prompt": "x"}}).json()["workers"] == 1


def test_the_content_type_of_a_submit_does_not_matter(http: httpx.Client) -> None:
    """A curl without -H says it sends a form; what it sends is JSON all the same."""
    response = http.post(
        "/jobs",
        content=b'{"task":"acme/steps","input":{"prompt":"x"}}',
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert response.status_code == 202


def test_a_record_tells_the_whole_job(http: httpx.Client, store: JobStore, event_log: EventLog) -> None:
    """State, times, progress, error, metrics and URLs, as far as there are any."""
    claim = running(store)
    event_log.append(
        job_id=claim.job_id,
        fence=claim.fence,
        token=claim.token,
        first=2,
        events=[("", b'{"step":1}')],
        progress=b"0.5",
    )
    record = http.get(f"/jobs/{claim.job_id}").json()
    assert record["job_id"] == claim.job_id
    assert (record["state"], record["attempt"], record["queue_position"]) == ("running", 1, None)
    assert (record["input"], record["progress"], record["error"]) == ({"prompt": "x"}, 0.5, None)
    assert record["last_event_id"] == f"{claim.fence}-2"
    assert record["created_at"].endswith("Z")
    assert record["created_at"] <= record["claimed_at"] <= record["started_at"]
    assert list(record["timings"]) == ["created", "claimed"]
    assert record["ended_at"] is None
    [attempt] = record["attempts"]
    assert (attempt["attempt"], attempt["worker"], attempt["ended_at"], attempt["error"]) == (
        1,
        "w1",
        None,
        None,
    )
    assert record["urls"]["stream"] == f"/jobs/{claim.job_id}/stream"


def test_a_queued_job_knows_its_place(http: httpx.Client, store: JobStore) -> None:
    """0 is the next to be taken."""
    submit(store)
    second = submit(store)
    assert http.get(f"/jobs/{second}").json()["queue_position"] == 1


def test_a_result_is_the_bare_output(http: httpx.Client, store: JobStore) -> None:
    """The bytes that rank 0 returned, without an envelope."""
    claim = running(store)
    store.finish(claim, SUCCESS, 1)
    response = http.get(f"/jobs/{claim.job_id}/result")
    assert (response.status_code, response.content) == (200, b'{"done":true}')
    assert response.headers["Content-Type"] == "application/json"


def test_a_result_that_is_not_there_yet_is_202(http: httpx.Client, store: JobStore) -> None:
    """With Retry-After, so that a polling client knows when to ask again."""
    response = http.get(f"/jobs/{submit(store)}/result")
    assert (response.status_code, response.json()["state"]) == (202, "queued")
    assert int(response.headers["Retry-After"]) > 0


def test_a_failed_job_answers_500_with_its_error(http: httpx.Client, store: JobStore) -> None:
    """The error object of the record, so that a client need not ask twice."""
    claim = running(store)
    store.finish(claim, FAILURE, 1)
    problem = told(http.get(f"/jobs/{claim.job_id}/result"), 500, "job-failed")
    assert problem["error"] == {"kind": "exception", "message": "boom", "rank": 1}
    assert problem["detail"] == "boom"


def test_a_cancelled_job_answers_409_with_its_error(http: httpx.Client, store: JobStore) -> None:
    """Its result will never be there."""
    job_id = submit(store)
    store.cancel(job_id)
    problem = told(http.get(f"/jobs/{job_id}/result"), 409, "job-cancelled")
    assert problem["error"]["kind"] == "cancelled"


def test_a_cancel_is_accepted_and_its_repeat_is_fine(http: httpx.Client, store: JobStore) -> None:
    """202 while it changes something, 200 when the job had ended before."""
    job_id = submit(store)
    first, again = http.post(f"/jobs/{job_id}/cancel"), http.post(f"/jobs/{job_id}/cancel")
    assert (first.status_code, first.json()["state"]) == (202, "cancelled")
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")


def test_a_running_job_is_asked_to_end(http: httpx.Client, store: JobStore) -> None:
    """Its worker decides when; the record says that it was asked."""
    claim = starting(store)
    response = http.post(f"/jobs/{claim.job_id}/cancel")
    assert (response.status_code, response.json()["state"]) == (202, "starting")
    assert http.get(f"/jobs/{claim.job_id}").json()["is_cancel_requested"] is True


def test_jobs_are_listed_newest_first_in_pages(http: httpx.Client, store: JobStore) -> None:
    """A cursor leads through all of them; null says that there are no more."""
    ids = [submit(store) for _ in range(5)]
    listed: list[str] = []
    cursor = ""
    while cursor is not None:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = http.get("/jobs", params=query).json()
        listed += [job["job_id"] for job in page["jobs"]]
        cursor = page["cursor"]
    assert listed == ids[::-1]


def test_jobs_are_listed_by_task_and_state(http: httpx.Client, store: JobStore) -> None:
    """Both may be asked for at once."""
    queued, other, claim = submit(store), submit(store, "acme/other"), running(store)

    def ids(**query: str) -> set[str]:
        return {job["job_id"] for job in http.get("/jobs", params=query).json()["jobs"]}

    assert ids(task="acme/other") == {other}
    assert ids(state="running") == {claim.job_id}
    assert ids(task=TASK, state="queued") == {queued}
    assert ids(task="acme/none") == set()


def test_logs_are_what_the_ranks_printed(http: httpx.Client, store: JobStore, logs: JobLogs) -> None:
    """Oldest first, with rank and host; the cursor asks for what came after."""
    job_id = submit(store)
    none = http.get(f"/jobs/{job_id}/logs").json()
    assert (none["logs"], none["state"]) == ([], "queued")
    logs.append(job_id, [LogLine(n, "gpu1", "stdout", f"line {n}", 1000 + n) for n in range(3)])
    first = http.get(f"/jobs/{job_id}/logs", params={"limit": 2}).json()
    rest = http.get(f"/jobs/{job_id}/logs", params={"after": first["cursor"]}).json()
    assert [line["text"] for line in first["logs"] + rest["logs"]] == ["line 0", "line 1", "line 2"]
    assert first["logs"][1] | {"id": ""} == {
        "id": "",
        "rank": 1,
        "host": "gpu1",
        "stream": "stdout",
        "text": "line 1",
        "ts_ms": 1001,
    }


def test_tasks_are_told_with_schema_and_workers(http: httpx.Client, catalog: Catalog, task: TaskInfo) -> None:
    """All that a client needs to know to submit one."""
    catalog.heartbeat(WORKER)
    (listed,) = http.get("/tasks").json()["tasks"]
    assert listed == http.get(f"/tasks/{TASK}").json()
    assert (listed["name"], listed["world_size"], listed["workers"]) == (TASK, 2, 1)
    assert listed["input_schema"] == task.input_schema
    assert listed["urls"]["stream"] == f"/run/{TASK}/stream"


def test_a_name_may_be_longer(http: httpx.Client, catalog: Catalog) -> None:
    """All of it is the task's, in every URL."""
    name = f"{TASK}/upscale/fast"
    catalog.register([TaskInfo(name=name, input_schema={"type": "object"})])
    assert http.get(f"/tasks/{name}").json()["name"] == name
    assert http.post("/jobs", json={"task": name, "input": {}}).json()["task"] == name
    assert f"/queue/{TASK}/requests/" in http.post(f"/queue/{name}", json={}).json()["status_url"]
    assert [job["task"] for job in http.get("/jobs").json()["jobs"]] == [name, name]


def test_workers_are_told_with_slots_and_queues(
    http: httpx.Client, catalog: Catalog, store: JobStore
) -> None:
    """Who is alive, what each slot does, and how long the queues are."""
    catalog.heartbeat(WORKER)
    submit(store)
    body = http.get("/workers").json()
    assert [(each["worker_id"], each["host"]) for each in body["workers"]] == [("w1", "gpu1")]
    assert body["workers"][0]["slots"][0] == {
        "index": 0,
        "devices": [0, 1],
        "state": "busy",
        "warm": TASK,
        "job_id": "j",
    }
    assert body["queues"] == [{"task": TASK, "queued": 1, "running": 1}]


def test_probes_answer(http: httpx.Client) -> None:
    """The process answers, and Redis answers it."""
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready"}


def test_a_trailing_slash_is_no_other_address(http: httpx.Client, store: JobStore) -> None:
    """Some clients add one."""
    assert http.get(f"/jobs/{submit(store)}/").status_code == 200


# What is refused

NOT_JSON = {
    "nothing but a brace": b"{",
    "a form": b"task=acme/steps",
    "NaN": b'{"task":"acme/steps","input":{"prompt":NaN}}',
    "infinity": b'{"task":"acme/steps","input":{"prompt":-Infinity}}',
    "half a surrogate pair": b'{"task":"acme/steps","input":{"prompt":"\\ud800"}}',
    "no UTF-8": b'{"task":"acme/steps","input":{"prompt":"\xff"}}',
    "nested without end": b"[" * 100_000 + b"]" * 100_000,
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
@pytest.mark.parametrize("path", ["/jobs", "/stream"])
def test_a_body_that_is_not_json_is_400(http: httpx.Client, path: str, body: bytes) -> None:
    """Whatever its content type says."""
    told(http.post(path, content=body, headers={"Content-Type": "application/json"}), 400, "bad-request")


def test_an_input_that_does_not_fit_is_422_with_every_fault(http: httpx.Client) -> None:
    """One answer for all of them, each with its path."""
    response = http.post("/jobs", json={"task": TASK, "input": {"steps": 0, "stepz": 1}})
    problem = told(response, 422, "invalid-input")
    assert {fault["path"] for fault in problem["errors"]} == {"$.prompt", "$.steps", "$.stepz"}
    assert all(fault["message"] for fault in problem["errors"])


ENVELOPES: dict[str, tuple[Any, set[str]]] = {
    "not an object": ([1], {"$"}),
    "no task": ({"input": {}}, {"$.task"}),
    "unknown field": ({"task": TASK, "inputs": {}}, {"$.inputs"}),
    "input is a list": ({"task": TASK, "input": []}, {"$.input"}),
    "options is a list": ({"task": TASK, "options": []}, {"$.options"}),
    "unknown option": ({"task": TASK, "options": {"prio": 1}}, {"$.options.prio"}),
    "priority out of range": ({"task": TASK, "options": {"priority": 10}}, {"$.options.priority"}),
    "priority is a boolean": ({"task": TASK, "options": {"priority": True}}, {"$.options.priority"}),
    "times": (
        {"task": TASK, "options": {"ttl_s": 0, "timeout_s": "1", "start_timeout_s": 1e300}},
        {"$.options.ttl_s", "$.options.timeout_s", "$.options.start_timeout_s"},
    ),
}


@pytest.mark.parametrize(("body", "paths"), ENVELOPES.values(), ids=ENVELOPES.keys())
def test_an_envelope_that_is_wrong_is_422(http: httpx.Client, body: Any, paths: set[str]) -> None:
    """Also what Redis' scripts could not have counted with."""
    problem = told(http.post("/jobs", json=body), 422, "invalid-input")
    assert {fault["path"] for fault in problem["errors"]} == paths


def test_an_input_nested_too_deeply_is_422(http: httpx.Client) -> None:
    """JSON that was read must also be written; no stack overflows on the way."""
    deep = b'{"a":' * 500 + b"1" + b"}" * 500
    told(http.post("/jobs", content=b'{"task":"acme/steps","input":%b}' % deep), 422, "invalid-input")


def test_an_unknown_task_is_404_and_names_those_there_are(http: httpx.Client) -> None:
    """Most often a name was mistyped."""
    for response in (
        http.post("/jobs", json={"task": "acme/stepz", "input": {}}),
        http.get("/tasks/acme/stepz"),
    ):
        assert told(response, 404, "unknown-task")["known"] == [TASK]


@pytest.mark.parametrize("job_id", ["nope", "x:events", "%F0%9F%8C%8A", "a" * 2000, "%00"])
@pytest.mark.parametrize("path", ["", "/stream", "/result", "/logs"])
def test_an_unknown_job_is_404(http: httpx.Client, store: JobStore, job_id: str, path: str) -> None:
    """Ids that would name another key in Redis included."""
    response = http.get(f"/jobs/{job_id}{path}")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"


def test_the_key_of_another_kind_is_no_job(http: httpx.Client, store: JobStore) -> None:
    """`<id>:events` is a key of the job with that id, and not a job."""
    job_id = submit(store)
    for call in (
        http.get(f"/jobs/{job_id}:events"),
        http.get(f"/jobs/{job_id}:events/stream"),
        http.post(f"/jobs/{job_id}:events/cancel"),
    ):
        told(call, 404, "unknown-job")


def test_cancelling_an_unknown_job_is_404(http: httpx.Client) -> None:
    told(http.post("/jobs/nope/cancel"), 404, "unknown-job")


def test_an_unknown_address_is_404(http: httpx.Client) -> None:
    told(http.get("/nowhere"), 404, "not-found")


def test_a_wrong_method_is_405_and_says_which_is_right(http: httpx.Client, store: JobStore) -> None:
    job_id = submit(store)
    response = http.delete(f"/jobs/{job_id}")
    told(response, 405, "method-not-allowed")
    assert "GET" in response.headers["Allow"]
    told(http.get(f"/jobs/{job_id}/cancel"), 405, "method-not-allowed")
    told(http.get("/stream"), 405, "method-not-allowed")


BAD_QUERIES = [
    ("/jobs", {"limit": "0"}),
    ("/jobs", {"limit": "501"}),
    ("/jobs", {"limit": "ten"}),
    ("/jobs", {"limit": "١"}),
    ("/jobs", {"state": "SUCCESS"}),
    ("/jobs", {"cursor": "x"}),
    ("/jobs/{id}/logs", {"after": "x"}),
    ("/jobs/{id}/logs", {"limit": "-1"}),
    ("/jobs/{id}/stream", {"from": "yesterday"}),
]


@pytest.mark.parametrize(("path", "query"), BAD_QUERIES)
def test_a_parameter_that_cannot_be_read_is_400(
    http: httpx.Client, store: JobStore, path: str, query: dict[str, str]
) -> None:
    """Better than an answer to another question."""
    told(http.get(path.replace("{id}", submit(store)), params=query), 400, "bad-request")


def test_a_full_queue_is_429_with_retry_after(http: httpx.Client, redis: redis_py.Redis) -> None:
    """The limit keeps Redis within bounds when all workers are away."""
    redis.zadd(keys.QUEUED(TASK), {str(n): n for n in range(Settings().max_queued)})
    response = http.post("/jobs", json={"task": TASK, "input": {"prompt": "x"}})
    told(response, 429, "queue-full")
    assert int(response.headers["Retry-After"]) > 0


TOO_LARGE = 8 * 1024 * 1024 + 1


def test_too_large_a_body_is_413(http: httpx.Client) -> None:
    """Told from its announced length, before any of it is read."""
    told(http.post("/jobs", content=b" " * TOO_LARGE), 413, "content-too-large")


def test_too_large_a_body_without_a_length_is_413(http: httpx.Client) -> None:
    """Chunked coding announces nothing; what is over the limit is not read into memory."""

    def parts() -> Iterator[bytes]:
        for _ in range(TOO_LARGE // 65536 + 1):
            yield b" " * 65536

    told(http.post("/jobs", content=parts()), 413, "content-too-large")


def test_the_largest_body_is_taken(http: httpx.Client) -> None:
    """8 MiB to the byte."""
    head, tail = b'{"task":"acme/steps","input":{"prompt":"', b'"}}'
    body = head + b"x" * (TOO_LARGE - 1 - len(head) - len(tail)) + tail
    assert http.post("/jobs", content=body).status_code == 202


def test_a_connection_serves_on_after_a_refusal(web: str) -> None:
    """An unread body must not be taken for the next request."""
    address = urlsplit(web)
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=10) as raw:
        raw.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12345")
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answers = b""
        while part := raw.recv(65536):
            answers += part
    assert answers.count(b"HTTP/1.1 ") == 2
    assert answers.rstrip().endswith(b'{"status":"ok"}')


def test_an_ended_job_says_so_everywhere(http: httpx.Client, store: JobStore, event_log: EventLog) -> None:
    """Record, list and result agree."""
    claim = running(store)
    append(event_log, claim, 2, "1", "2")
    announce(event_log, claim, 4, {"path": "a/1/c.pt", "attempt": 1, "step": 7})
    outcome = Outcome(state=JobState.SUCCEEDED, output=b"[1,2]", metrics={"run_s": 1.5})
    store.finish(claim, outcome, 4)
    record = http.get(f"/jobs/{claim.job_id}").json()
    (listed,) = http.get("/jobs", params={"state": "succeeded"}).json()["jobs"]
    assert (record["state"], listed["state"]) == ("succeeded", "succeeded")
    assert record["metrics"] == {"run_s": 1.5}
    assert record["checkpoint"] == {"path": "a/1/c.pt", "attempt": 1, "step": 7}
    assert record["ended_at"] >= record["started_at"]
