"""Whatever happens to a request, its key and its token are in nothing that the server writes or sends."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import redis as redis_py
from api_keys import give
from helpers import wait_until
from jobs import TASK
from web_tier import BOTH_WAYS, Watch, web_tier

from rankcast.tasks.catalog import TaskInfo
from rankcast.tasks.keys import JobKeys


def raw_answer(url: str, request: bytes) -> bytes:
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as raw:
        raw.sendall(request)
        return raw.makefile("rb").read()


#: A stream that breaks is told of by whoever writes it.
BREAKS = {"1": "writing to the viewers of job", "0": "Error handling request"}


@pytest.mark.parametrize("way", BOTH_WAYS)
def test_no_secret_is_in_anything_that_a_server_wrote(
    way: str,
    valkey_url: str,
    redis: redis_py.Redis,
    task: TaskInfo,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
):
    """Its access log in the most talkative form, its debug log, tracebacks, Redis, and other answers."""
    alice, log = give(tmp_path / "keys", "alice"), tmp_path / "log"
    form = "%(r)s|%(q)s|%(f)s|%({authorization}i)s|%({raw_uri}e)s"
    args = f"--access-logfile {log} --error-logfile {log} --log-level debug --access-logformat '{form}'"
    told = {"RANKCAST_KEYS": str(tmp_path / "keys"), "RANKCAST_TAKE_OVER": way}
    with web_tier(valkey_url, GUNICORN_CMD_ARGS=args, **told) as web:
        made = httpx.post(
            f"{web.url}/jobs",
            json={"task": TASK, "input": {"prompt": "x"}},
            headers={**alice.headers, "Idempotency-Key": alice.text},
        )
        job_id, url = made.json()["job_id"], made.json()["urls"]["stream"]
        token = url.partition("token=")[2]
        assert (made.headers["Referrer-Policy"], made.headers["Cache-Control"]) == ("no-referrer", "no-store")
        answers = [
            # A link that was followed from a page with the token in its own URL.
            httpx.get(f"{web.url}/jobs", headers={**alice.headers, "Referer": f"{web.url}{url}"}).content,
            httpx.get(f"{web.url}/jobs/{job_id}", params={"token": token, "key": alice.text}).content,
            httpx.get(f"{web.url}{url}&from={alice.text}").content,
            httpx.get(f"{web.url}/jobs/{job_id}/result", headers=alice.headers).content,
            httpx.get(f"{web.url}/nothing?token={token}", headers=alice.headers).content,
        ]
        # A header that gunicorn itself refuses, and quotes in its log.
        raw_answer(web.url, b"GET /jobs HTTP/1.1\r\nAuthorization : Key %b\r\n\r\n" % alice.text.encode())
        watch = Watch(web.url, url)
        watch.until(1)
        # Two errors of ours: one before the answer has begun, one in the middle of a stream.
        redis.delete(JobKeys(job_id).events)
        redis.set(JobKeys(job_id).events, "no stream")
        # Of a place that the process does not know by itself.
        answers.append(httpx.get(f"{web.url}{url}", headers={"Last-Event-ID": "0-5"}).content)
        redis.publish(JobKeys(job_id).live, "0-7 0-8 0\nid: 0-8\ndata: 1\n\n")
        wait_until(lambda: watch.is_broken or watch.is_complete, "the stream that broke ends")
        watch.leave()
    written = log.read_text() + "".join(capfd.readouterr())
    for line in (
        f"GET /jobs/{job_id}/stream?token=[redacted] HTTP/1.1|token=[redacted]|",
        f"Key rk_{alice.id}_[redacted]",
        "request failed: GET",
        BREAKS[way],
        "Invalid request",
    ):
        assert line in written
    kept = [redis.dump(key) or b"" for key in redis.scan_iter()]
    for secret in (alice.text.partition(alice.id)[2], token):
        assert secret not in written
        assert not any(secret.encode() in each for each in (*answers, *kept))
    redis.flushall()  # of a job whose events are no stream
