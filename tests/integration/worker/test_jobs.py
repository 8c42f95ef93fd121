"""Jobs on a real worker, from the submit to the end event."""

import json
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import orjson
import pytest
from commands import rankcast
from helpers import wait_until
from web_tier import Frame, Watch, web_tier
from workers import Site, Worker, worker

from rankcast.tasks.celery_app import queue_of
from rankcast.tasks.connect import _LUA, _source
from rankcast.tasks.event import END, RESULT, STATE, EventId
from rankcast.tasks.job import JobOptions
from rankcast.tasks.state import JobState
from rankcast.tasks.summary import timings


@pytest.fixture(scope="module")
def host(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One slot, all of the tasks that work."""
    with worker(
        site.url, "steady.py", folder=tmp_path_factory.mktemp("host"), env={"RANKCAST_HOST": "gpu-1"}
    ) as started:
        yield started


def output(site: Site, job_id: str) -> Any:
    record = site.wait_ended(job_id)
    assert record.state is JobState.SUCCEEDED, record.error
    return orjson.loads(site.store.output(job_id) or b"null")


def test_the_log_of_a_job_tells_its_life_in_order(site: Site, host: Worker):
    """0-1 queued, n-1 starting, n-2 running, the results, the end; nothing else and no hole."""
    job_id = site.submit("acme/steps", {"steps": 3})
    output(site, job_id)
    events = site.events(job_id)
    fence = events[1].id.fence
    assert [event.id for event in events] == [EventId(0, 1), *(EventId(fence, seq) for seq in range(1, 7))]
    assert [event.prev for event in events[1:]] == [event.id for event in events[:-1]]
    assert [event.kind for event in events] == [STATE] * 3 + [RESULT] * 3 + [END]
    told = [orjson.loads(event.data) for event in events]
    assert [each["state"] for each in (*told[:3], told[-1])] == ["queued", "starting", "running", "succeeded"]
    assert (told[1]["host"], told[1]["attempt"]) == ("gpu-1", 1)
    assert told[3:6] == [{"step": step, "total": 2.0 * step} for step in range(3)]
    assert told[-1]["output"]["world_size"] == 2


def test_the_second_job_finds_the_group_warm(site: Site, host: Worker):
    """The same processes, what `setup` made included; the stream says which one had to load."""
    jobs = [site.submit("acme/other"), site.submit("acme/steps"), site.submit("acme/steps")]
    _, first, second = (output(site, job_id) for job_id in jobs)
    assert second["pid"] == first["pid"]
    assert second["calls"] == 2
    assert [site.store.record(job_id).metrics["cold"] for job_id in jobs[1:]] == [True, False]
    assert [b'"loading":true' in (site.events(job_id)[1].data or b"") for job_id in jobs[1:]] == [True, False]


def test_a_job_on_a_warm_group_runs_by_its_first_event(site: Site, host: Worker):
    """Rank 0 tells so; of a group that was loaded its worker did before."""
    for is_cold in (True, False):
        if is_cold:
            output(site, site.submit("acme/other"))
        job_id = site.submit("acme/steps", {"steps": 2, "delay_s": 0.05})
        site.wait_event(job_id, '"running"')
        record = site.store.record(job_id)
        assert (record.state, record.started_ms is None) == (JobState.RUNNING, False)
        assert site.wait_ended(job_id).metrics["cold"] is is_cold


#: What a warm job that streams nothing asks of Redis, and what for.
ROUND_TRIPS = (
    "create",  # submit: its record, its place in the queue
    "LPUSH",  # submit: the wake-up
    "claim",  # worker: the right to run it
    "append",  # rank 0: it runs
    "finish",  # worker: how it ended, its output
    "BRPOP",  # worker: the next wake-up
)


def test_a_warm_job_takes_six_round_trips(site: Site, host: Worker):
    """Three of them from its claim to its end. Others ask as well each second, so the fewest of ten count."""
    for _ in range(2):
        output(site, site.submit("acme/other"))
    with site.redis.monitor() as told:
        found = [tuple(_round_trips(site.submit("acme/other"), told)) for _ in range(10)]
    assert min(found, key=len) == ROUND_TRIPS


def _round_trips(job_id: str, told: Any) -> Iterator[str]:
    """The scripts and commands that Redis was asked for, from the submit until the worker waits again."""
    scripts = {_source(file.removesuffix(".lua"), True).sha: file.removesuffix(".lua") for file in _LUA}
    is_begun = is_ended = False
    while True:
        asked = told.next_command()
        command, _, rest = asked["command"].partition(" ")
        name = scripts.get(rest.partition(" ")[0], command)
        is_begun = is_begun or (name == "create" and job_id in rest)
        if not is_begun or asked["client_type"] == "lua":
            continue
        yield name
        is_ended = is_ended or (name == "finish" and job_id in rest)
        if is_ended and name == "BRPOP":
            return


def test_tasks_take_turns_on_a_slot(site: Site, host: Worker):
    """A switch closes one group and loads the other; nobody notices but by the time it takes."""
    order = ["acme/steps", "acme/other", "acme/steps"]
    jobs = [output(site, site.submit(task)) for task in order]
    assert len({job["pid"] for job in jobs}) == 3
    # The worker, its forkserver, Python's resource tracker, the ranks of one group and their guards.
    wait_until(lambda: len(host.family()) == 7, f"two ranks: {host.family()}")


def test_what_ranks_print_is_in_the_jobs_logs(site: Site, host: Worker):
    """With rank, host and stream, all of it by the time the job has ended, and in the worker's own log."""
    job_id = site.submit("acme/steps")
    output(site, job_id)
    lines = {(each.rank, each.host, each.stream, each.text) for _, each in site.logs.read(job_id)}
    wanted = {
        (rank, "gpu-1", stream, f"rank {rank} {verb}")
        for rank in (0, 1)
        for stream, verb in (("stdout", "begins"), ("stderr", "complains"))
    }
    assert wanted <= lines
    assert f"[{job_id} rank 1] rank 1 begins" in host.log


def test_the_record_has_the_figures_of_a_job(site: Site, host: Worker):
    """How long it waited, loaded and ran, in ms."""
    job_id = site.submit("acme/steps", {"steps": 2, "delay_s": 0.05})
    output(site, job_id)
    metrics = site.store.record(job_id).metrics
    assert metrics.keys() == {"cold", "queue_ms", "load_ms", "run_ms", "moments_ms"}
    assert metrics["run_ms"] >= 100


def test_a_job_tells_when_it_got_where(site: Site, host: Worker):
    """Through four processes, in order; also one without events."""
    way = ["created", "claimed", "started", "dispatched", "called"]
    steps = site.submit("acme/steps", {"steps": 2, "delay_s": 0.05})
    silent = site.submit("acme/other")
    output(site, steps)
    found = timings(site.store.record(steps))
    assert list(found) == [*way, "first_event", "published", "returned", "decided", "ended"]
    assert list(found.values()) == sorted(found.values())
    assert found["returned"] - found["called"] >= 100
    assert list(timings(site.wait_ended(silent))) == [*way, "returned", "decided", "ended"]


def test_a_traced_submit_shows_the_whole_way(site: Site, host: Worker):
    """From the client that sends the POST, through web tier, worker and rank, back to that client."""
    with web_tier(site.url) as web:
        done = rankcast("submit", "acme/steps", "steps=2", "--trace", "--json", "--url", web.url)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["timings"]
    assert list(found.values()) == sorted(found.values())
    way = ["created", "claimed", "started", "dispatched", "called", "first_event", "published"]
    assert [name for name in found if name in way] == way
    for earlier, later in pairwise(["sent", "posted", "created", "answered", "watching", "delivered"]):
        assert found[earlier] <= found[later]
    for earlier, later in (("published", "delivered"), ("ended", "end_delivered")):
        assert found[earlier] <= found[later] + 1, "Redis counts whole milliseconds"


def test_celery_shows_a_running_job_under_its_tasks_name(site: Site, host: Worker):
    """`celery inspect active` speaks of jobs: their id, their task."""
    job_id = site.submit("acme/patient")
    site.wait_event(job_id, "pid")
    active = wait_until(lambda: site.app.control.inspect(timeout=1).active(), "an answer to inspect")
    [shown] = next(iter(active.values()))
    assert (shown["id"], shown["name"]) == (job_id, "acme/patient")
    site.store.cancel(job_id)
    site.wait_ended(job_id)


def test_a_job_whose_message_is_lost_runs_all_the_same(site: Site, host: Worker):
    """Several of them, while the slot is busy: the worker wakes itself until none is left."""
    first = site.submit("acme/patient")
    site.wait_event(first, "pid")
    jobs = [site.submit("acme/steps") for _ in range(3)]
    site.redis.delete(queue_of("acme/steps"))
    site.store.cancel(first)
    for job_id in jobs:
        output(site, job_id)


def test_a_job_whose_message_is_lost_runs_though_no_slot_is_ever_free(site: Site, host: Worker):
    """Others have messages, of its own task and of another: whenever the slot is free, one is there."""
    task, tenth = "acme/steps", {"steps": 2, "delay_s": 0.05}
    others = deque(site.submit(task, tenth) for _ in range(3))
    forgotten = site.store.create(task=task, input=b'{"steps":1}', options=JobOptions()).job_id
    other_forgotten = site.store.create(task="acme/other", input=b"{}", options=JobOptions()).job_id
    busy = 0
    while not all(site.store.record(each).state.is_terminal for each in (forgotten, other_forgotten)):
        busy += 1
        assert busy < 100, "a hundred jobs came after it, and ran before it"
        others.append(site.submit(task, tenth))
        site.wait_ended(others.popleft())
    for job_id in others:
        site.wait_ended(job_id)


def test_a_message_for_a_job_that_has_ended_does_nothing(site: Site, host: Worker):
    """Doubled and stale wake-ups are part of life."""
    job_id = site.submit("acme/other")
    first = output(site, job_id)
    assert site.redis.llen(queue_of("acme/other")) == 0
    for _ in range(3):
        site.wake("acme/other", job_id)
    wait_until(lambda: not site.redis.exists(queue_of("acme/other")), "the messages are read")
    assert output(site, job_id) == first
    assert site.store.record(job_id).attempt == 1


def test_a_message_that_comes_four_times_is_one_attempt(site: Site, host: Worker):
    """While the job waits, and while it runs."""
    blocker, job_id = site.submit("acme/patient"), site.submit("acme/steps", {"steps": 5, "delay_s": 0.1})
    site.wait_event(blocker, "pid")
    for _ in range(3):
        site.wake("acme/steps", job_id)
    site.store.cancel(blocker)
    site.wait_event(job_id, '"step"')
    site.wake("acme/steps", job_id)
    assert output(site, job_id)["world_size"] == 2
    wait_until(lambda: not site.redis.exists(queue_of("acme/steps")), "the messages are read")
    assert site.store.record(job_id).attempt == 1
    assert [b'"starting"' in (event.data or b"") for event in site.events(job_id)].count(True) == 1


def test_jobs_start_in_the_order_of_their_priority(site: Site, host: Worker):
    """The record decides, whatever order the messages come in."""
    blocker = site.submit("acme/patient")
    site.wait_event(blocker, "pid")
    late, early = site.submit("acme/other", priority=9), site.submit("acme/other", priority=0)
    site.store.cancel(blocker)
    assert output(site, early)["called_at"] < output(site, late)["called_at"]


def test_the_catalog_shows_the_worker_and_its_slot(site: Site, host: Worker):
    """What `rankcast status` prints: host, slot, the task that is warm there."""
    output(site, site.submit("acme/steps"))

    def shown() -> bool:
        [told] = site.catalog.workers()
        return (told.host, told.slots[0].warm, told.slots[0].state) == ("gpu-1", "acme/steps", "idle")

    wait_until(shown, "the heartbeat after the job")
    assert {task.name: task.workers for task in site.catalog.tasks()} == dict.fromkeys(
        ("acme/burst", "acme/deaf", "acme/other", "acme/patient", "acme/steps"), 1
    )


def test_nothing_of_celery_grows_in_redis(site: Site, host: Worker):
    """No binding of ours, no list that nobody reads."""
    output(site, site.submit("acme/other"))

    def left() -> list[bytes]:
        others = (key for key in site.redis.scan_iter() if not key.startswith(b"rankcast:"))
        return [key for key in others if b"pidbox" not in key and key != b"_kombu.binding_deadlines"]

    wait_until(lambda: not left(), f"the last acknowledgement: {left()}")


def test_a_burst_reaches_a_viewer_whole(site: Site, host: Worker):
    """20,000 results as fast as a rank can cast them, over HTTP: the viewer's transcript is the log."""
    count = 20_000
    with web_tier(site.url) as web:
        job_id = site.submit("acme/burst", {"count": count})
        watch = Watch(web.url, f"/jobs/{job_id}/stream")
        assert output(site, job_id) == count
        watch.to_end()
    log = site.events(job_id)
    assert watch.frames == [Frame(str(event.id), event.kind, (event.data or b"").decode()) for event in log]
    assert watch.results() == [{"n": number} for number in range(count)]
