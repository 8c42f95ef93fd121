"""The logs of all ended jobs together are bounded: the oldest go first, and viewers are told."""

from collections.abc import Callable

import pytest
import redis as redis_py
from helpers import inconsistencies
from jobs import SUCCESS, TASK, Memory, append, forget, ids, running, starting, submit

from rankcast.tasks import keys
from rankcast.tasks.event import START, EventId
from rankcast.tasks.eventlog import FIRST, EventLog
from rankcast.tasks.job import Claim
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore
from rankcast.tasks.sweep import LOGS_BATCH, Sweep

EVENT = '"' + "x" * 998 + '"'
#: What one event of 1,000 bytes counts: an entry costs 32 bytes beside its data.
COUNTED = 1_032

End = Callable[..., Claim]


@pytest.fixture
def redis(redis_or_fake: redis_py.Redis) -> redis_py.Redis:
    return redis_or_fake


@pytest.fixture
def ended(redis: redis_py.Redis, store: JobStore, event_log: EventLog) -> End:
    """`ended(events)`: a job that streamed so many results of 1,000 bytes, and succeeded. Each ends
    later than the one before, also within the same millisecond."""
    count = 0

    def end(events: int) -> Claim:
        nonlocal count
        claim = running(store)
        if events:
            append(event_log, claim, 2, *[EVENT] * events)
        store.finish(claim, SUCCESS, 1 + events)
        count += 1
        if events:
            redis.zadd(keys.KEPT, {claim.job_id: count}, xx=True)
        return claim

    return end


def bounded(redis: redis_py.Redis, max_bytes: int) -> Sweep:
    return Sweep(redis, Settings(max_ended_log_bytes=max_bytes))


def kept_bytes(redis: redis_py.Redis) -> int:
    return int(redis.get(keys.KEPT_TOTAL) or 0)


def left_of(log: EventLog, job_id: str) -> list[str]:
    """The ids of a trimmed log; a page has no hole, so 0-1 is a page of its own."""
    pages = [log.read(job_id, START), log.read(job_id, FIRST)]
    return [str(event.id) for page in pages for event in page]


def test_the_oldest_logs_go_until_the_rest_is_within_the_bound(redis, event_log, ended):
    """By the end of their job; a job whose log is trimmed is otherwise as it was."""
    oldest, older, newest = ended(5), ended(5), ended(5)
    assert kept_bytes(redis) == 15 * COUNTED
    assert bounded(redis, 10 * COUNTED).run_once().logs == 1
    assert kept_bytes(redis) == 10 * COUNTED
    assert left_of(event_log, oldest.job_id) == ["0-1", f"{oldest.fence}-7"]
    for claim in (older, newest):
        assert len(ids(event_log, claim.job_id)) == 8
    assert bounded(redis, 10 * COUNTED).run_once().logs == 0
    assert bounded(redis, 1).run_once().logs == 2
    assert kept_bytes(redis) == 0
    assert redis.keys("rankcast:kept*") == []


def test_a_late_viewer_is_told_of_the_gap(redis, store, event_log, ended):
    """0-1, the gap, the end: whoever comes from the start or with a cursor, seen or not."""
    claim = ended(5)
    bounded(redis, 1).run_once()
    newest = EventId(claim.fence, 6)
    start = event_log.locate(claim.job_id, None)
    (first,) = event_log.read(claim.job_id, start.after)
    (end,) = event_log.read(claim.job_id, first.id)
    assert (str(first.id), first.kind, end.kind, end.prev) == ("0-1", "state", "end", newest)
    for cursor in ("0-1", f"{claim.fence}-3"):
        start = event_log.locate(claim.job_id, cursor)
        assert (start.notice, start.after, start.gap) == ("gap", newest, (EventId.parse(cursor), newest))
    seen_all_but_the_end = event_log.locate(claim.job_id, str(newest))
    assert (seen_all_but_the_end.notice, seen_all_but_the_end.after) == (None, newest)
    assert event_log.locate(claim.job_id, str(end.id)).is_complete
    record = store.record(claim.job_id)
    assert (record.state, store.output(claim.job_id)) == (JobState.SUCCEEDED, b'{"done":true}')


def test_what_still_runs_is_never_trimmed(redis, store, event_log):
    """Its own bound holds for it, and only that."""
    claim = running(store)
    append(event_log, claim, 2, EVENT, EVENT)
    assert kept_bytes(redis) == 0
    assert bounded(redis, 1).run_once().logs == 0
    assert len(ids(event_log, claim.job_id)) == 4


def test_a_job_without_results_is_not_counted(redis, store, ended):
    """Nothing of its log could be trimmed."""
    ended(0)
    store.cancel(submit(store))
    store.cancel(starting(store).job_id)
    assert redis.keys("rankcast:kept*") == []


def test_a_log_that_lost_its_own_beginning_counts_what_is_left(redis, store):
    """The bound of one job has trimmed it already."""
    log = EventLog(redis, Settings(max_log_bytes=16 * COUNTED))
    claim = running(store)
    for seq in range(2, 102):
        append(log, claim, seq, EVENT)
    store.finish(claim, SUCCESS, 101)
    assert 0 < kept_bytes(redis) <= 16 * COUNTED
    bounded(redis, 1).run_once()
    assert left_of(log, claim.job_id) == ["0-1", f"{claim.fence}-102"]


def test_an_end_that_is_asked_for_again_counts_once(redis, store, event_log):
    """Its reply was lost, or the redo buffer makes it again."""
    claim = running(store)
    append(event_log, claim, 2, EVENT)
    for _ in range(3):
        store.finish(claim, SUCCESS, 2)
    assert kept_bytes(redis) == COUNTED


def test_an_end_that_a_restart_lost_and_that_is_made_again_counts_once(redis, store, event_log):
    claim = running(store)
    append(event_log, claim, 2, EVENT)
    before = Memory(redis)
    store.finish(claim, SUCCESS, 2)
    before.come_back()
    store.finish(claim, SUCCESS, 2)
    assert kept_bytes(redis) == COUNTED


def test_forgotten_jobs_give_their_share_back(redis, sweep, ended):
    """Their time to live is over, trimmed or not."""
    kept, over, trimmed = ended(1), ended(2), ended(3)
    redis.zadd(keys.KEPT, {trimmed.job_id: 0}, xx=True)
    assert bounded(redis, 3 * COUNTED).run_once().logs == 1
    for claim in (over, trimmed):
        redis.zadd(keys.ENDED, {f"{TASK} {claim.job_id}": 1}, xx=True)
        forget(redis, claim.job_id)
    assert sweep.run_once().ended == 2
    assert kept_bytes(redis) == COUNTED
    assert redis.hgetall(keys.KEPT_BYTES) == {kept.job_id.encode(): b"%d" % COUNTED}


def test_a_job_that_expired_and_was_not_swept_yet_is_passed_over(redis, store, ended):
    """Redis lets the keys go by itself; nothing of it may come back to life."""
    over, kept = ended(2), ended(1)
    forget(redis, over.job_id)
    assert bounded(redis, COUNTED).run_once().logs == 1
    assert redis.exists(JobKeys(over.job_id).record, JobKeys(over.job_id).events) == 0
    assert kept_bytes(redis) == COUNTED
    assert store.record(kept.job_id).state is JobState.SUCCEEDED


def test_a_sum_that_somebody_spoilt_mends_itself(redis, ended):
    """Too high, it trims more than it must, and then it is right again."""
    ended(1), ended(1)
    redis.set(keys.KEPT_TOTAL, 10**9)
    assert inconsistencies(redis) != []
    assert bounded(redis, 10 * COUNTED).run_once().logs == 2
    ended(1)
    assert kept_bytes(redis) == COUNTED


def test_all_that_is_too_much_goes_in_one_sweep(redis, ended):
    """In as many script calls as it takes."""
    for _ in range(LOGS_BATCH + 1):
        ended(1)
    assert bounded(redis, 1).run_once().logs == LOGS_BATCH + 1


def test_without_a_bound_nothing_is_trimmed(redis, sweep, ended):
    """A server without maxmemory has none, unless the setting says one."""
    claim = ended(5)
    assert sweep.run_once().logs == 0
    assert redis.zscore(keys.KEPT, claim.job_id) is not None
