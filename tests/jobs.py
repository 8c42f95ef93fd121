"""Jobs in every condition, as tests need them; `from jobs import ...`."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import redis

from rankcast.tasks import keys
from rankcast.tasks.connect import Scripts
from rankcast.tasks.errors import StoreUnavailable
from rankcast.tasks.event import START
from rankcast.tasks.eventlog import Appended, EventLog
from rankcast.tasks.job import Claim, JobErrorInfo, JobOptions, Outcome, new_token
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.live import decode_batch
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore

TASK = "acme/steps"
SUCCESS = Outcome(state=JobState.SUCCEEDED, output=b'{"done":true}')
FAILURE = Outcome(state=JobState.FAILED, error=JobErrorInfo(kind="exception", message="boom", rank=1))


def submit(store: JobStore, task: str = TASK, **options: Any) -> str:
    """A queued job; its id."""
    return store.create(task=task, input=b'{"prompt":"x"}', options=JobOptions(**options)).job_id


def owned_by(store: JobStore, owner: str, *, task: str = TASK) -> str:
    """A queued job that the API key `owner` submitted; its id."""
    return store.create(task=task, input=b"{}", options=JobOptions(), owner=owner).job_id


def claim_next(
    store: JobStore, job_id: str | None = None, *, token: str | None = None, worker: str = "w1"
) -> Claim | None:
    return store.claim(task=TASK, token=token or new_token(), worker=worker, job_id=job_id, is_warm=True)


def starting(store: JobStore, job_id: str | None = None, **options: Any) -> Claim:
    """A job that has been claimed: the one named, else a new one."""
    job_id = job_id or submit(store, **options)
    claim = claim_next(store, job_id)
    assert claim is not None
    assert claim.job_id == job_id
    return claim


def running(store: JobStore, job_id: str | None = None, **options: Any) -> Claim:
    """A job whose group is ready."""
    claim = starting(store, job_id, **options)
    store.start(claim)
    return claim


def append(log: EventLog, claim: Claim, first: int, *data: bytes | str) -> Appended:
    """Results with this data, numbered from `first`."""
    events = [("", text if isinstance(text, bytes) else text.encode()) for text in data]
    return log.append(job_id=claim.job_id, fence=claim.fence, token=claim.token, first=first, events=events)


def announce(log: EventLog, claim: Claim, first: int, checkpoint: dict[str, Any]) -> Appended:
    """A checkpoint, as rank 0 tells of it."""
    return log.append(
        job_id=claim.job_id,
        fence=claim.fence,
        token=claim.token,
        first=first,
        events=[("checkpoint", json.dumps(checkpoint).encode())],
    )


def let_lease_run_out(client: redis.Redis, job_id: str) -> None:
    """As if its worker had not been heard for a whole lease."""
    assert client.zadd(keys.RUNNING, {job_id: 1}, xx=True, ch=True) == 1


def let_start_deadline_pass(client: redis.Redis, job_id: str) -> None:
    assert client.zadd(keys.DEADLINES, {job_id: 1}, xx=True, ch=True) == 1


def let_sweeps_pause(client: redis.Redis, ms: float) -> None:
    """As if nobody had swept for so long: Redis was away, or its host stood still."""
    client.hset(keys.SWEEPS, "at", now_ms(client) - round(ms))


def let_settling_pass(client: redis.Redis) -> None:
    """As if all who live had had their time to tell a restarted Redis what it lost."""
    client.hset(keys.SWEEPS, "met", 1)


def let_settling_last(client: redis.Redis) -> None:
    """As if the server that was restarted just now were met only when any test is over."""
    with suppress(StoreUnavailable):
        Scripts(client).run("gone", "nobody")
    client.hset(keys.SWEEPS, "met", now_ms(client) + 600_000)


def let_grace_pass(client: redis.Redis) -> None:
    """As if all that is held back after an outage or a restart were over."""
    client.hset(keys.SWEEPS, mapping={"grace": now_ms(client), "met": 0})


def forget(client: redis.Redis, job_id: str) -> None:
    """As if the job's time to live were over."""
    of = JobKeys(job_id)
    client.delete(of.record, of.events, of.marks, of.logs)


class Memory:
    """What Redis held when this was made; `come_back` is a restart that lost everything since."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._held = {key: (client.dump(key), max(client.pttl(key), 0)) for key in client.scan_iter()}

    def come_back(self) -> None:
        self._client.flushall()
        for key, (value, ttl_ms) in self._held.items():
            self._client.restore(key, ttl_ms, value)


class Ear:
    """Hears a job's live channel from now on."""

    def __init__(self, client: redis.Redis, channel: str) -> None:
        self._pubsub = client.pubsub(ignore_subscribe_messages=False)
        self._pubsub.subscribe(channel)
        assert self._pubsub.get_message(timeout=5)["type"] == "subscribe"

    def messages(self) -> list[bytes]:
        """All that came since the last call. Redis delivers before it answers the caller of a script,
        so what that call published is here when it has returned; the timeout is for the socket."""
        found = []
        while message := self._pubsub.get_message(timeout=0.1):
            found.append(message["data"])
        return found

    def events(self) -> list[tuple[str, str, bytes]]:
        """(id, kind, data) of each event heard."""
        return [(str(e.id), e.kind, e.data) for m in self.messages() for e in decode_batch(m).events]

    def close(self) -> None:
        self._pubsub.close()


def ids(log: EventLog, job_id: str) -> list[str]:
    """Every id of the log, in order."""
    return [str(event.id) for event in log.read(job_id, START, 100_000, 1 << 30)]


def states(event_log: EventLog, job_id: str) -> Iterator[dict[str, object]]:
    """The data of the events that tell of the job's state, in order."""
    for event in event_log.read(job_id, START, 100_000, 1 << 30):
        if event.kind in ("state", "end"):
            assert event.data is not None
            yield json.loads(event.data)


def now_ms(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return int(seconds * 1000 + micros // 1000)
