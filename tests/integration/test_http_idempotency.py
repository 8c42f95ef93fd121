"""`Idempotency-Key` on `POST /jobs`, as clients meet it."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import redis as redis_py
from helpers import wait_until
from jobs import SUCCESS, TASK, running, submit
from lossy import lossy_redis
from web_tier import web_tier

from rankcast import Client, IdempotencyKeyReused
from rankcast.tasks.celery_app import queue_of
from rankcast.tasks.store import JobStore

BODY = {"task": TASK, "input": {"prompt": "x"}}
KEY = {"Idempotency-Key": "order 17"}


def test_a_repeat_gets_the_same_202_and_a_header_that_says_so(web: str, other_web: str) -> None:
    """At any web process."""
    first = httpx.post(f"{web}/jobs", json=BODY, headers=KEY)
    again = httpx.post(f"{other_web}/jobs", json=BODY, headers=KEY)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["Location"] == first.headers["Location"]
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"


def test_a_repeat_tells_how_the_job_stands_now(web: str, store: JobStore) -> None:
    """It may be running, or over, by the time a client asks again."""
    job_id = httpx.post(f"{web}/jobs", json=BODY, headers=KEY).json()["job_id"]
    claim = running(store, job_id)
    again = httpx.post(f"{web}/jobs", json=BODY, headers=KEY).json()
    assert (again["job_id"], again["state"], again["attempt"]) == (job_id, "running", 1)
    store.finish(claim, SUCCESS, 1)
    again = httpx.post(f"{web}/jobs", json=BODY, headers=KEY)
    assert (again.status_code, again.json()["state"]) == (202, "succeeded")


def test_fifty_posts_at_once_are_one_job(web: str, other_web: str, store: JobStore) -> None:
    """Whichever comes first makes it; nobody is told to come again."""
    with ThreadPoolExecutor(50) as posts:
        urls = [web, other_web] * 25
        answers = list(posts.map(lambda url: httpx.post(f"{url}/jobs", json=BODY, headers=KEY), urls))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    assert ["Idempotency-Replayed" in answer.headers for answer in answers].count(False) == 1
    assert store.queued_count(TASK) == 1


def test_a_web_process_killed_before_it_answers_leaves_one_job(
    valkey_url: str, other_web: str, redis: redis_py.Redis, store: JobStore
) -> None:
    """kill -9 when the job is written and its client has heard nothing: the repeat finds it, at another
    process, and sends the wake-up that was never sent."""
    submit(store, "acme/other")  # so that Redis knows the script, and the kill meets its first call
    with lossy_redis(valkey_url) as line, web_tier(line.url) as killed, ThreadPoolExecutor(1) as client:
        line.silence = lambda command: b"EVALSHA" in command and b"rankcast:idempotency:" in command
        first = client.submit(httpx.post, f"{killed.url}/jobs", json=BODY, headers=KEY, timeout=30)
        wait_until(lambda: store.queued_count(TASK) == 1, "the job to be written")
        assert not first.done()
        killed.kill()
        assert isinstance(first.exception(30), httpx.TransportError)
    written = store.head_of(TASK)
    assert redis.llen(queue_of(TASK)) == 0
    again = httpx.post(f"{other_web}/jobs", json=BODY, headers=KEY)
    assert (again.status_code, again.json()["job_id"]) == (202, written)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert store.queued_count(TASK) == 1
    assert redis.llen(queue_of(TASK)) == 1


def test_a_repeat_wakes_a_worker_again(web: str, redis: redis_py.Redis) -> None:
    """The first wake-up may have been lost with the answer."""
    for _ in range(2):
        httpx.post(f"{web}/jobs", json=BODY, headers=KEY)
    assert redis.llen(queue_of(TASK)) == 2


def test_another_body_under_the_same_key_is_409_and_names_the_job(web: str, store: JobStore) -> None:
    first = httpx.post(f"{web}/jobs", json=BODY, headers=KEY).json()
    refused = httpx.post(f"{web}/jobs", json=BODY | {"input": {"prompt": "y"}}, headers=KEY)
    problem = refused.json()
    assert (refused.status_code, problem["type"]) == (409, "urn:rankcast:problem:idempotency-key-reused")
    assert (problem["job_id"], problem["urls"]) == (first["job_id"], first["urls"])
    assert "differ" in problem["detail"]
    assert store.queued_count(TASK) == 1


@pytest.mark.parametrize("value", [b"", b"k" * 256, b"a\tb", "schlüssel".encode(), b"\xff"])
def test_a_malformed_key_is_400(web: str, store: JobStore, value: bytes) -> None:
    """Taken as no key it would make two jobs of one."""
    refused = httpx.post(f"{web}/jobs", json=BODY, headers=[(b"Idempotency-Key", value)])
    assert (refused.status_code, refused.json()["type"]) == (400, "urn:rankcast:problem:bad-request")
    assert "255 printable" in refused.json()["detail"]
    assert store.queued_count(TASK) == 0


def test_a_refused_submit_leaves_its_key_free(web: str) -> None:
    """The client mends its input and sends it under the same key."""
    assert httpx.post(f"{web}/jobs", json=BODY | {"input": {}}, headers=KEY).status_code == 422
    assert httpx.post(f"{web}/jobs", json=BODY, headers=KEY).status_code == 202


def test_the_client_repeats_a_submit_under_its_key(web: str) -> None:
    """One job; another input is refused, and so is what no header can carry."""
    with Client(web) as client:
        first = client.submit(TASK, prompt="x", idempotency_key="order 17")
        assert client.submit(TASK, prompt="x", idempotency_key="order 17").id == first.id
        assert client.submit(TASK, prompt="x", idempotency_key="order 18").id != first.id
        with pytest.raises(IdempotencyKeyReused, match="stands for job") as refused:
            client.submit(TASK, prompt="y", idempotency_key="order 17")
        assert refused.value.job_id == first.id
        with pytest.raises(ValueError, match="not an idempotency key"):
            client.submit(TASK, prompt="x", idempotency_key="a\r\nX-Other: b")
