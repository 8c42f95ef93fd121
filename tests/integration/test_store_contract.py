"""Jobs come, are claimed, and are read back: on a real server and on fakeredis."""

import json
from dataclasses import replace

import pytest
import redis as redis_py
from jobs import (
    FAILURE,
    SUCCESS,
    TASK,
    Memory,
    append,
    claim_next,
    forget,
    ids,
    let_lease_run_out,
    now_ms,
    owned_by,
    running,
    starting,
    states,
    submit,
)

from rankcast.tasks import keys
from rankcast.tasks.errors import QueueFull, StaleAttempt, UnknownJob
from rankcast.tasks.event import START, EventId
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.idempotency import IdempotencyKey
from rankcast.tasks.job import Claim, JobOptions, Renewal
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.keyuse import KeyUse
from rankcast.tasks.logs import LogLine
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore
from rankcast.tasks.sweep import Sweep


@pytest.fixture
def redis(redis_or_fake: redis_py.Redis) -> redis_py.Redis:
    return redis_or_fake


# Submit


def test_a_submitted_job_waits_and_its_log_says_so(store, event_log):
    """Record, queue and the first event stand together, or not at all."""
    created = store.create(
        task=TASK, input=b'{"prompt":"x"}', options=JobOptions(timeout_s=60), accept_ms=2.5
    )
    record = store.record(created.job_id)
    assert (record.state, record.attempt, record.queue_position) == (JobState.QUEUED, 0, 0)
    assert (record.input, record.options.timeout_s) == ({"prompt": "x"}, 60)
    assert (record.created_ms, record.accept_ms, record.claimed_ms) == (created.created_ms, 2.5, None)
    (event,) = event_log.read(created.job_id, START)
    assert (str(event.id), event.prev, event.kind) == ("0-1", START, "state")
    assert record.last == event.id


def test_a_job_that_nobody_serves_is_told_so(redis, store, event_log, settings):
    """Workers count while their heartbeat is young, by Redis' clock."""
    now = now_ms(redis)
    redis.zadd(keys.SERVING(TASK), {"old": now - settings.worker_ttl_s * 1000 - 1})
    alone = store.create(task=TASK, input=b"{}", options=JobOptions())
    redis.zadd(keys.SERVING(TASK), {"young": now})
    served = store.create(task=TASK, input=b"{}", options=JobOptions())
    assert (alone.workers, served.workers) == (0, 1)
    assert list(states(event_log, alone.job_id)) == [
        {"state": "queued", "queue_position": 0, "workers": 0, "message": "no worker serves this task now"}
    ]
    assert list(states(event_log, served.job_id)) == [{"state": "queued", "queue_position": 1, "workers": 1}]


def test_priority_decides_and_then_the_order_of_submission(store):
    """0 goes first; a queue position is a place in that order."""
    late, early, urgent, next_ = (submit(store, priority=p) for p in (9, 5, 0, 5))
    order = sorted([late, early, urgent, next_], key=lambda job_id: store.record(job_id).queue_position)
    assert order == [urgent, early, next_, late]
    assert [claim_next(store).job_id for _ in order] == order


def test_a_wake_up_for_an_older_job_starts_a_more_urgent_one(store):
    """Messages come in the order of submission: named jobs give way, but only to a higher priority."""
    first, second, urgent = (submit(store, priority=p) for p in (5, 5, 0))
    assert [claim_next(store, named).job_id for named in (second, second, first)] == [urgent, second, first]


def test_a_full_queue_takes_no_more_and_writes_nothing(redis, settings):
    """The bound is of one task; others go on."""
    store = JobStore(redis, replace(settings, max_queued=2))
    submit(store), submit(store)
    before = set(redis.keys())
    with pytest.raises(QueueFull, match="2 jobs"):
        submit(store)
    assert set(redis.keys()) == before
    submit(store, "acme/other")


def test_a_submit_sent_twice_is_one_job(store, event_log):
    """A lost reply: the second call tells how the job stands now."""
    first = store.create(task=TASK, input=b"{}", options=JobOptions(), job_id="same")
    assert store.create(task=TASK, input=b"{}", options=JobOptions(), job_id="same") == first
    assert (store.queued_count(TASK), ids(event_log, "same")) == (1, ["0-1"])
    running(store, "same")
    again = store.create(task=TASK, input=b"{}", options=JobOptions(), job_id="same")
    assert (again.state, again.queue_position) == (JobState.RUNNING, None)


# Claim


def test_a_claim_gets_the_job_it_names(store):
    """The wake-up names one; while it is queued that is the one."""
    submit(store)
    named = submit(store)
    assert claim_next(store, named).job_id == named


@pytest.mark.parametrize("named", ["claimed", "ended", "unknown", "of another task"])
def test_a_claim_of_what_is_not_queued_gets_the_head(store, named):
    """A stale, doubled or misled wake-up does the work that is there."""
    gone = starting(store)
    if named == "ended":
        store.finish(gone, FAILURE, 0)
    head, _ = submit(store), submit(store)
    job_id = {"unknown": "x", "of another task": submit(store, "acme/other")}.get(named, gone.job_id)
    assert claim_next(store, job_id).job_id == head


def test_a_claim_with_nothing_queued_gets_nothing(store):
    """Also when it names a job."""
    assert claim_next(store) is None
    assert claim_next(store, running(store).job_id) is None


def test_a_claim_asked_again_with_its_token_is_the_same_claim(store, event_log):
    """A lost reply costs nothing, whichever job the claim got."""
    gone = running(store)
    head, other = submit(store), submit(store)
    claim = claim_next(store, gone.job_id, token="t")
    assert claim_next(store, gone.job_id, token="t") == claim
    store.start(claim)
    assert claim_next(store, gone.job_id, token="t") == claim
    assert (claim.job_id, store.record(other).state) == (head, JobState.QUEUED)
    assert len(ids(event_log, head)) == 2


def test_a_token_whose_claim_was_taken_begins_anew(redis, store, sweep):
    """The old claim is void: the same token gets a larger fence."""
    job_id = submit(store)
    first = claim_next(store, token="t")
    let_lease_run_out(redis, job_id)
    sweep.run_once()
    second = claim_next(store, token="t")
    assert (second.attempt, second.fence > first.fence) == (2, True)
    assert store.renew([first]) == {job_id: Renewal.LOST}


def test_a_token_whose_job_another_claimed_gets_nothing_of_it(redis, store, sweep):
    """What the token once got is the other's now."""
    job_id = submit(store)
    claim_next(store, token="t")
    let_lease_run_out(redis, job_id)
    sweep.run_once()
    claim_next(store, token="another")
    assert claim_next(store, token="t") is None


def test_a_claim_tells_all_that_an_attempt_needs(store):
    """Input as it was accepted, byte for byte, and the options."""
    options = JobOptions(priority=1, start_timeout_s=2.5, timeout_s=3, ttl_s=4)
    text = b'{"a": 1.0, "\\u00e4":"\xc3\xa4"}'
    created = store.create(task=TASK, input=text, options=options)
    claim = store.claim(task=TASK, token="t", worker="w", job_id=None, is_warm=True)
    assert claim == Claim(
        job_id=created.job_id,
        task=TASK,
        fence=claim.fence,
        token="t",
        attempt=1,
        worker="w",
        input=text,
        options=options,
        waited_ms=claim.waited_ms,
        deployment=claim.deployment,
    )
    record = store.record(created.job_id)
    assert (record.state, record.worker, record.attempt) == (JobState.STARTING, "w", 1)
    assert claim.waited_ms >= record.claimed_ms - record.created_ms


@pytest.mark.parametrize("is_warm", [True, False])
def test_a_claim_opens_its_attempt_in_the_log(store, event_log, is_warm):
    """`n-1` comes after all before it, and says whether a group must be loaded first."""
    job_id = submit(store)
    claim = store.claim(task=TASK, token="t", worker='"w\\1', job_id=None, is_warm=is_warm)
    event = event_log.read(job_id, START)[-1]
    assert (event.id, event.prev, event.kind) == (EventId(claim.fence, 1), EventId(0, 1), "state")
    told = json.loads(event.data)
    assert (told["state"], told["attempt"], told["worker"]) == ("starting", 1, '"w\\1')
    assert told.get("loading", False) is not is_warm


def test_a_record_deleted_by_hand_does_not_stop_the_queue(redis, store):
    """Its id leaves the queue, and the next job is claimed."""
    broken, sound = submit(store), submit(store)
    forget(redis, broken)
    assert claim_next(store).job_id == sound
    assert store.queued_count(TASK) == 0


# The fence


def test_a_fence_grows_with_every_claim(store):
    """However soon they follow each other."""
    claim = starting(store)
    fences = [claim.fence]
    for _ in range(5):
        store.release(claim, is_loss=False, reason="drain")
        claim = starting(store, claim.job_id)
        fences.append(claim.fence)
    assert fences == sorted(set(fences))
    assert fences[0] > 0
    assert claim.attempt == 6


def test_a_fence_that_redis_forgot_never_comes_back(redis, store, event_log, wait_until):
    """A claim lost with the tail of Redis' own log: its cursors must not fit what follows."""
    job_id = submit(store)
    memory = Memory(redis)
    lost = running(store, job_id)
    append(event_log, lost, 2, "1")
    memory.come_back()
    wait_until(lambda: now_ms(redis) > store.record(job_id).created_ms + lost.fence, "a later ms")
    fresh = running(store, job_id)
    assert fresh.fence > lost.fence
    assert event_log.locate(job_id, f"{lost.fence}-2").notice == "reset"
    with pytest.raises(StaleAttempt):
        append(event_log, lost, 2, "1")


def test_a_claim_with_the_right_fence_and_another_token_owns_nothing(redis, store, event_log):
    """Two claims may draw one fence when Redis loses its tail within a millisecond; tokens differ."""
    claim = running(store)
    twin = replace(claim, token="another")
    assert store.renew([twin]) == {claim.job_id: Renewal.LOST}
    for refused in (
        lambda: append(event_log, twin, 2, "1"),
        lambda: store.start(twin),
        lambda: store.finish(twin, SUCCESS, 1),
        lambda: store.release(twin, is_loss=False, reason="drain"),
    ):
        with pytest.raises(StaleAttempt):
            refused()


# Start


def test_start_makes_a_job_running_and_leaves_the_log_to_rank_0(store, event_log):
    """From here one process numbers the events: n-2 is rank 0's."""
    claim = starting(store)
    assert store.start(claim) is False
    record = store.record(claim.job_id)
    assert (record.state, record.started_ms is None) == (JobState.RUNNING, False)
    assert record.last == EventId(claim.fence, 1)
    assert store.start(claim) is False


def test_start_tells_of_a_cancel_that_came_while_the_group_loaded(store):
    """Set after the claim looked, and perhaps before anybody listened."""
    claim = starting(store)
    store.cancel(claim.job_id)
    assert store.start(claim) is True


def test_start_of_a_job_that_was_taken_is_refused(redis, store, sweep):
    """The group was ready too late."""
    claim = starting(store)
    let_lease_run_out(redis, claim.job_id)
    sweep.run_once()
    with pytest.raises(StaleAttempt):
        store.start(claim)


# Lease


def test_a_renewed_lease_is_not_swept(redis, store, sweep):
    """And one call renews any number of them."""
    claims = [running(store), starting(store)]
    for claim in claims:
        let_lease_run_out(redis, claim.job_id)
    assert store.renew(claims) == {claim.job_id: Renewal.OWNED for claim in claims}
    assert not any(sweep.run_once())
    assert store.renew([]) == {}


def test_a_late_renew_succeeds_while_nobody_took_the_job(redis, store):
    """Expiry permits a takeover, it does not fence."""
    claim = running(store)
    let_lease_run_out(redis, claim.job_id)
    assert store.renew([claim]) == {claim.job_id: Renewal.OWNED}


def test_a_renew_after_a_takeover_is_lost(redis, store, sweep):
    """Queued again, claimed by another, or ended: it is the same news."""
    claim = running(store)
    let_lease_run_out(redis, claim.job_id)
    sweep.run_once()
    assert store.renew([claim]) == {claim.job_id: Renewal.LOST}
    after = running(store, claim.job_id)
    assert store.renew([claim, after]) == {claim.job_id: Renewal.OWNED}
    store.finish(after, SUCCESS, 1)
    assert store.renew([after]) == {claim.job_id: Renewal.LOST}


def test_a_renew_tells_of_a_cancel(store):
    """The lease is kept while the work stops."""
    claim = running(store)
    store.cancel(claim.job_id)
    assert store.renew([claim]) == {claim.job_id: Renewal.CANCEL_REQUESTED}


# Lists


def test_a_list_shows_the_newest_first_and_goes_on_by_its_cursor(store):
    """No job twice and none left out, also when new ones come in between."""
    made = [submit(store) for _ in range(5)]
    page = store.list(limit=2)
    submit(store)
    seen = [record.job_id for record in page.records]
    while page.cursor is not None:
        page = store.list(limit=2, cursor=page.cursor)
        seen += [record.job_id for record in page.records]
    assert seen == made[::-1]
    assert store.list(limit=1).records[0].queue_position == 5


def test_a_list_is_of_one_task_and_one_state_if_asked(store):
    """Any mixture of the two."""
    queued, other, done = submit(store), submit(store, "acme/other"), running(store)
    store.finish(done, SUCCESS, 1)

    def listed(**filters: object) -> list[str]:
        return [record.job_id for record in store.list(**filters).records]

    assert listed(task=TASK) == [done.job_id, queued]
    assert listed(state=JobState.QUEUED) == [other, queued]
    assert listed(task=TASK, state=JobState.SUCCEEDED) == [done.job_id]
    assert listed(task="acme/none") == []
    first = store.list(state=JobState.QUEUED, limit=1)
    assert [r.job_id for r in store.list(state=JobState.QUEUED, cursor=first.cursor).records] == [queued]


def test_a_list_of_one_owner_shows_what_that_submitted_alone(store):
    """Also together with a task and a state; who asks for no owner sees all."""
    mine, other = owned_by(store, "k1"), owned_by(store, "k1", task="acme/other")
    done = running(store, owned_by(store, "k1"))
    store.finish(done, SUCCESS, 1)
    theirs, nobodys = owned_by(store, "k2"), submit(store)

    def listed(**filters: object) -> list[str]:
        return [record.job_id for record in store.list(**filters).records]

    assert listed(owner="k1") == [done.job_id, other, mine]
    assert listed(owner="k1", task=TASK) == [done.job_id, mine]
    assert listed(owner="k1", task=TASK, state=JobState.QUEUED) == [mine]
    assert listed(owner="k2") == [theirs]
    assert listed(owner="k3") == []
    assert listed() == [nobodys, theirs, done.job_id, other, mine]
    first = store.list(owner="k1", state=JobState.QUEUED, limit=1)
    assert listed(owner="k1", state=JobState.QUEUED, cursor=first.cursor) == [mine]


def test_a_cursor_that_no_page_gave_is_a_value_error(store):
    """It comes from outside."""
    with pytest.raises(ValueError):
        store.list(cursor="+inf")


def test_the_head_of_a_queue_is_what_the_next_claim_gets(store):
    """A worker with a free slot looks here."""
    assert (store.head_of(TASK), store.queued_count(TASK)) == (None, 0)
    submit(store)
    urgent = submit(store, priority=0)
    assert (store.head_of(TASK), store.queued_count(TASK)) == (urgent, 2)


# Printed lines


def test_printed_lines_are_read_back_in_order(store, logs):
    """From every rank, long ones cut, bytes that were no text shown as such."""
    job_id = submit(store)
    lines = [
        LogLine(0, "a", "stdout", "one", 1),
        LogLine(1, "b", "stderr", "zwei \udce4", 2),
        LogLine(0, "a", "stdout", "x" * 5000, 3),
    ]
    logs.append(job_id, lines)
    (first, one), (_, two), (_, three) = logs.read(job_id)
    assert one == lines[0]
    assert two == lines[1]._replace(text="zwei ?")
    assert (three.text[:4096], len(three.text)) == ("x" * 4096, 4097)
    assert [line.text for _, line in logs.read(job_id, first, limit=1)] == ["zwei ?"]


# Owners


def test_a_job_and_its_claims_name_its_owner(store):
    """Also a claim that is asked for again because its answer was lost; '' is nobody."""
    owned, nobodys = owned_by(store, "k1"), submit(store)
    for job_id, owner in ((owned, "k1"), (nobodys, "")):
        claim = starting(store, job_id)
        assert claim.owner == owner
        assert claim_next(store, job_id, token=claim.token) == claim
        assert (store.record(job_id).owner, store.owner(job_id)) == (owner, owner)
    with pytest.raises(UnknownJob):
        store.owner("unknown")


# Names


def test_scripts_and_python_name_the_same_keys(redis, store, event_log, logs, settings):
    """The names stand twice, in keys.py and in lua/prelude.lua."""
    small = EventLog(redis, Settings(max_log_bytes=10_000))
    key = IdempotencyKey(value="k", route="POST /jobs")
    queued = store.create(task=TASK, input=b"{}", options=JobOptions(), key=key, owner="k1").job_id
    claim, ended = running(store), running(store)
    append(small, claim, 2, b'"' + b"x" * 1000 + b'"')
    logs.append(claim.job_id, [LogLine(0, "host", "stdout", "x", 1)])
    append(event_log, ended, 2, "1")
    store.finish(ended, SUCCESS, 2)
    Sweep(redis, settings).run_once()
    KeyUse(redis).note("k1")
    assert set(KeyUse(redis).all()) == {"k1"}
    of = [JobKeys(job_id) for job_id in (queued, claim.job_id, ended.job_id)]
    expected = {
        *(key for each in of for key in (each.record, each.events)),
        *(of[1].marks, of[1].logs),
        *(keys.ORDER, keys.RUNNING, keys.DEADLINES, keys.ENDED, keys.JOBS, keys.SWEEPS, keys.DEPLOYMENT),
        *(keys.KEPT, keys.KEPT_BYTES, keys.KEPT_TOTAL),
        *(keys.QUEUED(TASK), keys.JOBS_OF(TASK), keys.CLAIM(claim.token), keys.CLAIM(ended.token)),
        *(keys.IDEMPOTENCY(key.digest), keys.OWNED("k1"), keys.KEYS_USED),
    }
    assert {key.decode() for key in redis.scan_iter()} == expected
