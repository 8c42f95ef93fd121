"""A submit is checked, written, and only then told to the workers."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis as redis_py
from celery import Celery
from helpers import free_port
from kombu.transport.redis import Transport

from rankcast.tasks.broker import WakeUpChannel
from rankcast.tasks.catalog import Catalog, TaskInfo
from rankcast.tasks.celery_app import make_app, queue_of, wake
from rankcast.tasks.errors import InvalidInput, UnknownTask
from rankcast.tasks.idempotency import IdempotencyKey
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore
from rankcast.tasks.submit import CACHE_S, Submitter

STEPS = TaskInfo(
    name="acme/steps",
    input_schema={
        "type": "object",
        "properties": {"steps": {"type": "integer"}},
        "required": ["steps"],
        "additionalProperties": False,
    },
)


KEY = IdempotencyKey(value="order 17", route="POST /jobs")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(settings: Settings) -> Iterator[Celery]:
    app = make_app(settings)
    yield app
    app.close()


@pytest.fixture
def catalog(redis: redis_py.Redis, settings: Settings) -> Catalog:
    catalog = Catalog(redis, settings)
    catalog.register([STEPS])
    return catalog


@pytest.fixture
def submitter(store: JobStore, catalog: Catalog, app: Celery, clock: Clock) -> Submitter:
    return Submitter(store=store, catalog=catalog, app=app, clock=clock)


def test_a_submitted_job_is_queued_and_a_worker_woken(
    submitter: Submitter, store: JobStore, redis: redis_py.Redis
):
    """The record holds the input as checked; one message goes to the queue of the task."""
    created = submitter.submit("acme/steps", {"steps": 3})
    record = store.record(created.job_id)
    assert (record.state, record.input) == (JobState.QUEUED, {"steps": 3})
    assert redis.llen(queue_of("acme/steps")) == 1


def test_a_submitted_job_belongs_to_who_submits_it(submitter: Submitter, store: JobStore):
    """By the id of the API key."""
    owned, nobodys = (submitter.submit("acme/steps", {"steps": 3}, owner=owner) for owner in ("k1", ""))
    assert [store.owner(created.job_id) for created in (owned, nobodys)] == ["k1", ""]


def test_a_job_knows_how_long_its_post_had_been_there(submitter: Submitter, store: JobStore, clock: Clock):
    """Of what came with none there is nothing to know."""
    clock.now = 7.25
    posted, other = (submitter.submit("acme/steps", {"steps": 3}, posted_at=at) for at in (7.0, None))
    assert [store.record(created.job_id).accept_ms for created in (posted, other)] == [250, None]


def test_wake_ups_leave_no_bindings_in_redis(submitter: Submitter, redis: redis_py.Redis):
    """Only lists that are gone once they are read: nothing grows with the number of workers."""
    submitter.submit("acme/steps", {"steps": 3})
    assert redis.keys("*kombu*") == []


def test_an_input_that_does_not_fit_makes_no_job(submitter: Submitter, redis: redis_py.Redis):
    """Checked before anything is written."""
    with pytest.raises(InvalidInput, match=r"\$\.steps: must be an integer"):
        submitter.submit("acme/steps", {"steps": "3"})
    assert not redis.keys("rankcast:job:*")


def test_the_checked_text_is_the_stored_text(submitter: Submitter, store: JobStore):
    """NaN would pass as a number and be stored as null."""
    with pytest.raises(InvalidInput, match="nan has no JSON form"):
        submitter.submit("acme/steps", {"steps": float("nan")})


def test_an_unknown_task_is_asked_for_every_time(submitter: Submitter, catalog: Catalog):
    """A task is there the moment its first worker is."""
    with pytest.raises(UnknownTask):
        submitter.submit("acme/new", {})
    catalog.register([replace(STEPS, name="acme/new", input_schema={"type": "object"})])
    submitter.submit("acme/new", {})


def test_a_changed_schema_holds_within_seconds(submitter: Submitter, catalog: Catalog, clock: Clock):
    """A known task is asked for again after a moment, not at every submit."""
    submitter.submit("acme/steps", {"steps": 3})
    catalog.register([replace(STEPS, input_schema={"type": "object", "maxProperties": 0})])
    submitter.submit("acme/steps", {"steps": 3})
    clock.now = CACHE_S
    with pytest.raises(InvalidInput):
        submitter.submit("acme/steps", {"steps": 3})


def test_a_job_stands_though_the_broker_is_away(
    store: JobStore, catalog: Catalog, settings: Settings, caplog: pytest.LogCaptureFixture
):
    """The wake-up is lost, the job is not, and the log says what becomes of it."""
    app = make_app(replace(settings, broker_url=f"redis://127.0.0.1:{free_port()}/0"))
    submitter = Submitter(store=store, catalog=catalog, app=app)
    created = submitter.submit("acme/steps", {"steps": 3})
    assert store.record(created.job_id).state is JobState.QUEUED
    assert "a worker will find it by itself" in caplog.text
    app.close()


def test_submitting_a_job_again_changes_nothing_and_wakes_again(
    submitter: Submitter, store: JobStore, redis: redis_py.Redis
):
    """The caller who lost the answer may ask again under the same id."""
    first = submitter.submit("acme/steps", {"steps": 3}, job_id="a" * 32)
    again = submitter.submit("acme/steps", {"steps": 4}, job_id="a" * 32)
    assert again.job_id == first.job_id
    assert store.record(first.job_id).input == {"steps": 3}
    assert redis.llen(queue_of("acme/steps")) == 2


def test_a_repeat_under_its_idempotency_key_is_the_same_job_and_wakes_again(
    submitter: Submitter, redis: redis_py.Redis
):
    """The caller who lost the answer does not know the job's id, but its own key."""
    first = submitter.submit("acme/steps", {"steps": 3}, key=KEY)
    again = submitter.submit("acme/steps", {"steps": 3}, key=KEY)
    assert (first.is_replayed, again) == (False, first._replace(is_replayed=True))
    assert redis.llen(queue_of("acme/steps")) == 2


def test_a_repeat_is_not_judged_by_a_schema_that_changed(
    submitter: Submitter, catalog: Catalog, clock: Clock
):
    """Its job was accepted and runs: an answer that refused it would be a lie."""
    first = submitter.submit("acme/steps", {"steps": 3}, key=KEY)
    catalog.register([replace(STEPS, input_schema={"type": "object", "maxProperties": 0})])
    clock.now = CACHE_S
    assert submitter.submit("acme/steps", {"steps": 3}, key=KEY).job_id == first.job_id
    with pytest.raises(InvalidInput):
        submitter.submit("acme/steps", {"steps": 3}, key=replace(KEY, value="another"))


def test_celerys_tools_see_the_jobs_id_and_its_tasks_name(app: Celery, redis: redis_py.Redis):
    """So that inspect, revoke and Flower speak of jobs."""
    assert wake(app, task="acme/steps", job_id="j" * 32)
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(queue_of("acme/steps"))
        message = queue.get(timeout=5)
        message.ack()
        queue.close()
    assert message.headers["id"] == "j" * 32
    assert message.headers["shadow"] == "acme/steps"
    assert message.headers["argsrepr"] == f"['{'j' * 32}']"
    assert message.content_type == "application/json"


def test_a_wake_up_that_was_read_leaves_nothing_with_the_broker(app: Celery, redis: redis_py.Redis):
    """A worker that dies with it has nothing to be found later; its job is in the index."""
    assert wake(app, task="acme/steps", job_id="j" * 32)
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(queue_of("acme/steps"))
        queue.get(timeout=5)
        assert not redis.exists(queue_of("acme/steps"), "unacked", "unacked_index")
        queue.close()


def test_one_client_sends_all_wake_ups_of_a_connection(app: Celery, monkeypatch: pytest.MonkeyPatch):
    """kombu makes one for each."""
    monkeypatch.setattr(Transport, "Channel", WakeUpChannel)
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as again:
            assert first is again
            assert first.ping()
