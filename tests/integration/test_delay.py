"""Without HTTP, beside Redis: `delay` and `apply_async` on the user's class, `submit` by its name."""

from collections.abc import Iterator

import pytest

import rankcast
from rankcast import DistributedWorker, IdempotencyKeyReused, InvalidInput, NotATask, UnknownTask, task
from rankcast.beside_redis import beside_redis
from rankcast.tasks.catalog import Catalog, TaskInfo

SCHEMA = {"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["prompt"]}


@task("acme/steps")
class Steps(DistributedWorker):
    def __call__(self, prompt: str) -> None: ...


class Faster(Steps):
    """Not a task of its own: `@task` is not inherited."""


@pytest.fixture(autouse=True)
def at_this_redis(monkeypatch, valkey_url, redis, settings) -> Iterator[None]:
    """The environment names the Redis, and a worker has registered the task once."""
    Catalog(redis, settings).register([TaskInfo(name="acme/steps", input_schema=SCHEMA)])
    monkeypatch.setenv("RANKCAST_REDIS_URL", valkey_url)
    beside_redis.cache_clear()
    yield
    beside_redis().close()
    beside_redis.cache_clear()


def test_delay_queues_a_job_like_every_other(store):
    """The same queue, record and stream as over HTTP."""
    job = Steps.delay(prompt="A sunset")
    assert store.head_of("acme/steps") == job.id
    assert job.record()["input"] == {"prompt": "A sunset"}
    assert job.cancel() == "cancelled"
    assert [event.kind for event in job.stream()] == ["state", "end"]


def test_apply_async_takes_the_options_that_make_sense_here(store):
    """Priority, latest start and longest run; the queue only by its own name."""
    later = Steps.apply_async(
        kwargs={"prompt": "x"}, priority=9, expires=60, time_limit=5, queue="rankcast.acme/steps"
    )
    first = Steps.apply_async(kwargs={"prompt": "x"}, priority=0)
    options = later.record()["options"]
    assert (options["priority"], options["start_timeout_s"], options["timeout_s"]) == (9, 60, 5)
    assert store.head_of("acme/steps") == first.id
    first.cancel()
    later.cancel()


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"args": ["A sunset"]}, TypeError, "names"),
        ({"queue": "other"}, TypeError, "one queue"),
        ({"countdown": 5}, TypeError, "submit it later"),
        ({"eta": None}, TypeError, "submit it later"),
        ({"link": None}, TypeError, "not supported: link"),
        ({"priority": 10}, ValueError, "0, first, to 9"),
        ({"expires": "soon"}, ValueError, "expires must be a number of seconds"),
        ({"time_limit": 0}, ValueError, "time_limit must be a number of seconds above 0"),
    ],
)
def test_what_makes_no_sense_here_is_refused_with_what_to_do(options, error, told, store):
    """Silently ignoring an option would be worse than not having it."""
    with pytest.raises(error, match=told):
        Steps.apply_async(kwargs={"prompt": "x"}, **options)
    assert store.queued_count("acme/steps") == 0


def test_what_cannot_become_a_job_is_refused_before_it_is_queued(store):
    """The same checks as over HTTP, and one that only a class can fail."""
    with pytest.raises(InvalidInput):
        Steps.delay(prompt=1)
    with pytest.raises(NotATask, match="Faster"):
        Faster.delay(prompt="x")

    @task("acme/never-served")
    class NeverServed(DistributedWorker): ...

    with pytest.raises(UnknownTask):
        NeverServed.delay()
    assert store.queued_count("acme/steps") == 0


def test_submit_needs_the_name_of_a_task_and_not_its_class(store):
    """As `Client.submit`: the input as keywords or as one mapping, options, one job for each key."""
    job = rankcast.submit("acme/steps", prompt="A sunset", options={"priority": 1})
    assert (job.record()["input"], job.record()["options"]["priority"]) == ({"prompt": "A sunset"}, 1)
    once = rankcast.submit("acme/steps", {"prompt": "x"}, idempotency_key="k1")
    assert rankcast.submit("acme/steps", {"prompt": "x"}, idempotency_key="k1").id == once.id
    with pytest.raises(IdempotencyKeyReused):
        rankcast.submit("acme/steps", {"prompt": "y"}, idempotency_key="k1")
    for each in (job, once):
        assert each.cancel() == "cancelled"
    assert [event.state for event in once.stream()] == ["queued", "cancelled"]


def test_a_submit_that_makes_no_sense_is_refused_as_over_http(store):
    """What does not fit says where, and nothing is queued."""
    with pytest.raises(InvalidInput) as refused:
        rankcast.submit("acme/steps", prompt="x", options={"priority": 10, "colour": "red"})
    assert {fault.path for fault in refused.value.faults} == {"$.options.priority", "$.options.colour"}
    with pytest.raises(InvalidInput):
        rankcast.submit("acme/steps", prompt=1)
    with pytest.raises(TypeError, match="one mapping or as keywords"):
        rankcast.submit("acme/steps", {"prompt": "x"}, prompt="x")
    with pytest.raises(UnknownTask):
        rankcast.submit("acme/never-served")
    with pytest.raises(ValueError, match="not an idempotency key"):
        rankcast.submit("acme/steps", prompt="x", idempotency_key="\n")
    assert store.queued_count("acme/steps") == 0
