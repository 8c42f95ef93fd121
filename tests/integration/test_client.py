"""The public client against a real web tier, over lines that are cut; and beside Redis, the same."""

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from urllib.parse import urlsplit

import orjson
import pytest
from cutting_proxy import CuttingProxy
from helpers import free_port
from in_loop import async_client
from jobs import FAILURE, SUCCESS, TASK, append, forget, ids, running, submit
from watcher import Watcher
from web_tier import web_tier

from rankcast import (
    Client,
    InvalidInput,
    Job,
    JobCancelled,
    JobFailed,
    RequestRefused,
    ServerUnreachable,
    StoreUnavailable,
    UnknownJob,
    UnknownTask,
)
from rankcast.beside_redis import BesideRedis
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Outcome
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.logs import LogLine
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState

CLIENTS = {"sync": Client, "async": async_client}


@pytest.fixture(params=CLIENTS)
def open_client(request) -> Callable[..., AbstractContextManager[Client]]:
    """Both clients have the same face here, and keep the same promises."""
    return CLIENTS[request.param]


@pytest.fixture
def client(open_client, web: str, redis) -> Iterator[Client]:
    with open_client(web) as client:
        yield client


@pytest.fixture(params=[*CLIENTS, "beside redis"])
def job_of(request, web: str, redis, settings: Settings) -> Iterator[Callable[[str], Job]]:
    """Every way to a job keeps the same promises."""
    if request.param in CLIENTS:
        with CLIENTS[request.param](web) as client:
            yield client.job
    else:
        beside = BesideRedis(settings)
        yield lambda job_id: Job(job_id, beside)
        beside.close()


def test_every_event_arrives_once_and_in_order_over_a_line_that_is_cut_many_times(
    open_client, web, redis, store, event_log
):
    """One cursor is enough: while the job runs, after it, in the middle of a frame, before any."""
    draw = random.Random(7)
    cuts = [draw.choice([1, 40, 300, 700, 1500, 4000]) for _ in range(60)]
    proxy = CuttingProxy(urlsplit(web).port, iter(cuts))
    claim = running(store)
    with open_client(proxy.url) as client:
        watcher = Watcher(client.job(claim.job_id))
        for first in range(2, 602, 20):
            texts = [
                orjson.dumps({"n": n, "text": "\u2028" * draw.randint(0, 40)})
                for n in range(first, first + 20)
            ]
            append(event_log, claim, first, *texts)
            # Often behind, so that it resumes in the log, and often at its end, so that it follows.
            watcher.has(first // 2)
        store.finish(claim, SUCCESS, 601)
        events = watcher.to_end()
    proxy.close()
    assert [event.id for event in events] == ids(event_log, claim.job_id)
    assert [event.data["n"] for event in events if event.is_result] == list(range(2, 602))
    assert events[-1].kind == "end"
    assert proxy.count >= 30


def test_a_stream_goes_on_at_another_web_process(open_client, valkey_url, store, event_log):
    """A deploy: the process ends, for a moment nobody answers, another takes over."""
    claim = running(store)
    proxy = CuttingProxy(0, iter(()))
    with open_client(proxy.url) as client:
        with web_tier(valkey_url) as web:
            proxy.port = urlsplit(web.url).port
            watcher = Watcher(client.job(claim.job_id))
            append(event_log, claim, 2, '{"n":2}')
            watcher.has(3)
        append(event_log, claim, 3, '{"n":3}')
        with web_tier(valkey_url) as web:
            proxy.port = urlsplit(web.url).port
            watcher.has(4)  # the one that was written in between
            store.finish(claim, SUCCESS, 3)
            watcher.to_end()
    proxy.close()
    assert [event.id for event in watcher.events] == ids(event_log, claim.job_id)


def test_the_log_is_replayed_and_then_followed(job_of, store, event_log):
    """Late or early, everybody sees the same."""
    claim = running(store)
    append(event_log, claim, 2, "1", "[2]")
    watcher = Watcher(job_of(claim.job_id))
    watcher.has(4)
    append(event_log, claim, 4, '"three"')
    store.finish(claim, SUCCESS, 4)
    events = watcher.to_end()
    assert [event.id for event in events] == ids(event_log, claim.job_id)
    assert [event.data for event in events if event.is_result] == [1, [2], "three"]
    assert [event.kind for event in events] == ["state", "state", "", "", "", "end"]
    assert events[-1].data["output"] == {"done": True}


def test_a_stream_goes_on_behind_the_event_that_was_named(job_of, store, event_log):
    """What a program kept from an earlier run is a cursor."""
    claim = running(store)
    append(event_log, claim, 2, "1", "2", "3")
    store.finish(claim, SUCCESS, 4)
    kept = ids(event_log, claim.job_id)
    for place, cursor in enumerate(kept, start=1):
        assert [event.id for event in job_of(claim.job_id).stream(cursor)] == kept[place:]


def test_a_cursor_of_another_history_is_told_and_everything_comes_again(job_of, store, event_log):
    """`reset` reaches the caller: what it saw before may not be what happened."""
    claim = running(store)
    store.finish(claim, SUCCESS, 0)
    for cursor in ("9999999999999-1", "garbage"):
        reset, *events = job_of(claim.job_id).stream(cursor)
        assert (reset.kind, [event.id for event in events]) == ("reset", ids(event_log, claim.job_id))


def test_a_log_that_lost_its_end_is_told_while_it_is_watched(job_of, redis, store, event_log):
    """Redis came back without its last second: what was seen is no longer what the log says."""
    claim = running(store)
    watcher = Watcher(job_of(claim.job_id))
    append(event_log, claim, 2, '"kept"')
    watcher.has(3)
    of = JobKeys(claim.job_id)
    kept = {key: redis.dump(key) for key in (of.record, of.events)}
    append(event_log, claim, 3, '"lost"', '"lost too"')
    watcher.has(5)
    with redis.pipeline(transaction=True) as restart:
        for key, value in kept.items():
            restart.restore(key, 0, value, replace=True)
        restart.execute()
    watcher.has(6 + 3)
    append(event_log, claim, 3, '"new"')
    store.finish(claim, SUCCESS, 3)
    events = watcher.to_end()
    assert [event.kind for event in events[:6]] == ["state", "state", "", "", "", "reset"]
    assert [event.id for event in events[6:]] == ids(event_log, claim.job_id)
    assert [event.data for event in events if event.is_result] == ["kept", "lost", "lost too", "kept", "new"]


def test_events_that_are_no_longer_kept_are_told_as_a_gap(job_of, redis, store, settings):
    """`gap` says from where to where, and the rest follows without a hole."""
    small = EventLog(redis, Settings(redis_url=settings.redis_url, max_log_events=20))
    claim = running(store)
    for first in range(2, 102, 10):
        append(small, claim, first, *[str(n) for n in range(first, first + 10)])
    store.finish(claim, SUCCESS, 101)
    events = list(job_of(claim.job_id).stream())
    kinds = [kind for kind, _ in itertools.groupby(event.kind for event in events)]
    assert kinds == ["state", "gap", "", "end"]
    gap = next(event for event in events if event.kind == "gap")
    kept = [event.data for event in events if event.is_result]
    assert kept == list(range(kept[0], 102))
    assert gap.data == {"after": "0-1", "to": f"{claim.fence}-{kept[0] - 1}"}


@pytest.mark.parametrize("cursor", ["a\nb", "a\r", "ü", "\x00"])
def test_what_cannot_be_an_event_id_is_refused_by_the_client(cursor, open_client):
    """A line break in a header is an attack on somebody."""
    with open_client("http://127.0.0.1:1") as client, pytest.raises(ValueError, match="not an event id"):
        client.job("x").stream(cursor)


def test_result_waits_for_the_end_and_gives_the_output(job_of, store, event_log):
    """However large: an output over 64 KiB is not in the end event."""
    claim = running(store)
    threading.Timer(
        0.3, lambda: store.finish(claim, Outcome(state=JobState.SUCCEEDED, output=b"7"), 0)
    ).start()
    assert job_of(claim.job_id).result(timeout_s=30) == 7
    large = running(store)
    output = orjson.dumps("x" * 100_000)
    store.finish(large, Outcome(state=JobState.SUCCEEDED, output=output), 0)
    assert job_of(large.job_id).result() == "x" * 100_000


def test_result_raises_what_became_of_a_job_that_did_not_succeed(job_of, store):
    """The error object comes along: kind, rank, message."""
    claim = running(store)
    store.finish(claim, FAILURE, 0)
    with pytest.raises(JobFailed, match="exception on rank 1: boom") as failed:
        job_of(claim.job_id).result()
    assert failed.value.error == {"kind": "exception", "message": "boom", "rank": 1}
    job = job_of(submit(store))
    assert job.cancel() == "cancelled"
    assert job.cancel() == "cancelled"
    with pytest.raises(JobCancelled):
        job.result()


def test_result_gives_up_at_its_time_though_keepalives_go_on(job_of, store, redis):
    """The web tier here says something every 0.2 s; the wait is for the job, not for the line."""
    job_id = submit(store)
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.5 s"):
        job_of(job_id).result(timeout_s=0.5)
    store.cancel(job_id)


def test_a_job_that_was_forgotten_is_told_as_such(job_of, store, redis):
    """Its time to live is over, or there never was one."""
    job_id = submit(store)
    forget(redis, job_id)
    job = job_of(job_id)
    asks = (job.record, job.result, job.cancel, job.logs, lambda: list(job.stream()))
    for ask in asks:
        with pytest.raises(UnknownJob):
            ask()


@pytest.mark.parametrize("job_id", ["", ".", "..", "a/b", "../jobs"])
def test_what_no_path_can_name_is_no_job(job_of, job_id):
    """An empty variable on a command line, say."""
    job = job_of(job_id)
    for ask in (job.record, job.result, job.cancel, job.logs, lambda: list(job.stream())):
        with pytest.raises(UnknownJob, match=repr(job_id).replace(".", r"\.")):
            ask()


def test_a_download_from_a_forgotten_job_names_it(client, tmp_path):
    job_id = "0" * 32
    with pytest.raises(UnknownJob, match=job_id):
        client.download(f"/jobs/{job_id}/artifacts/7-1-a.png", tmp_path)


def test_a_record_says_the_same_both_ways(client, settings, store):
    """Programs may be moved from one way to the other."""
    claim = running(store, priority=2)
    store.finish(claim, replace(FAILURE, metrics={"run_ms": 3, "moments_ms": {"started": 1.5}}), 0)
    over_http = client.job(claim.job_id).record()
    beside = BesideRedis(settings)
    assert over_http | Job(claim.job_id, beside).record() == over_http
    assert (over_http["state"], over_http["metrics"]) == ("failed", {"run_ms": 3})
    beside.close()


def test_what_ranks_printed_is_there_line_by_line(job_of, store, logs):
    """With rank and host, in the order in which they came."""
    claim = running(store)
    lines = [LogLine(1, "gpu-1", "stderr", "hot", 5), LogLine(0, "gpu-1", "stdout", "", 6)]
    logs.append(claim.job_id, lines)
    assert job_of(claim.job_id).logs() == lines
    store.finish(claim, SUCCESS, 0)


def test_what_ranks_print_is_followed_until_the_job_has_ended(job_of, store, logs):
    """From the first line on; the last one is had, too, and then nobody waits any more."""
    claim = running(store)
    texts = [f"line {n}" for n in range(6)]

    def print_line(text: str) -> None:
        logs.append(claim.job_id, [LogLine(0, "gpu-1", "stdout", text, 5)])

    print_line(texts[0])
    followed = []
    for line in job_of(claim.job_id).follow_logs(timeout_s=60):
        followed.append(line.text)
        if len(followed) < len(texts):
            print_line(texts[len(followed)])
        else:
            store.finish(claim, SUCCESS, 0)
    assert followed == texts
    assert [line.text for line in job_of(claim.job_id).follow_logs()] == texts


def test_following_what_ranks_print_gives_up_at_its_time(job_of, store):
    """The job goes on, and says nothing."""
    job_id = submit(store)
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.2 s"):
        list(job_of(job_id).follow_logs(timeout_s=0.2))
    store.cancel(job_id)


def test_a_submitted_job_is_queued_with_its_input_and_options(client, store):
    """Input as a mapping or as keywords, not both."""
    first = client.submit(TASK, prompt="A sunset")
    second = client.submit(TASK, {"prompt": "Dawn", "steps": 3}, options={"priority": 1, "ttl_s": 60})
    with pytest.raises(TypeError):
        client.submit(TASK, {"prompt": "x"}, steps=3)
    assert first.record()["input"] == {"prompt": "A sunset"}
    record = second.record()
    assert (record["queue_position"], record["options"]["priority"]) == (0, 1)
    assert [job["job_id"] for job in client.jobs(task=TASK, state="queued", limit=5)] == [second.id, first.id]
    assert [known["name"] for known in client.tasks()] == [TASK]
    assert client.workers() == []
    assert client.status()["queues"] == [{"task": TASK, "queued": 2, "running": 0}]
    for job in (first, second):
        job.cancel()


def test_what_the_server_refuses_is_raised_as_what_it_is(client):
    """Each problem has its class, with what is needed to mend it."""
    with pytest.raises(UnknownTask, match="acme/steps"):
        client.submit("acme/step", prompt="x")
    with pytest.raises(InvalidInput) as invalid:
        client.submit(TASK, steps="many", extra=1)
    assert {fault.path for fault in invalid.value.faults} >= {"$.steps"}
    with pytest.raises(RequestRefused, match="400") as refused:
        client.jobs(state="nonsense")
    assert refused.value.status == 400
    assert client.jobs() == []


def test_nobody_there_is_told_with_the_address_and_what_to_start(open_client):
    """The first thing that a newcomer gets wrong."""
    url = f"http://127.0.0.1:{free_port()}"
    with open_client(url) as client:
        for ask in (client.tasks, lambda: list(client.job("x").stream()), client.job("x").result):
            with pytest.raises(ServerUnreachable, match=f"{url} .*rankcast up"):
                ask()


def test_redis_away_is_told_as_such(open_client):
    """The web tier answers 503: nothing was queued, and a later try may do."""
    with web_tier(f"redis://127.0.0.1:{free_port()}/0") as web, open_client(web.url) as client:
        with pytest.raises(StoreUnavailable):
            client.submit(TASK, prompt="x")
