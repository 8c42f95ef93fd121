"""A worker keeps its leases, and hears what becomes of its jobs."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis as redis_py
from helpers import wait_until
from jobs import let_lease_run_out, running, starting

from rankcast.gpu_worker.control import ControlChannel
from rankcast.gpu_worker.lease import LeaseKeeper
from rankcast.tasks import keys
from rankcast.tasks.job import Outcome
from rankcast.tasks.settings import Settings
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore
from rankcast.tasks.sweep import Sweep


class Heard:
    """An attempt, reduced to what it is told."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.lost = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()

    def lose(self) -> None:
        self.lost.set()


@pytest.fixture
def keeper(redis: redis_py.Redis, settings: Settings) -> Iterator[LeaseKeeper]:
    keeper = LeaseKeeper(replace(settings, lease_s=1.5))
    keeper.start()
    yield keeper
    keeper.stop()


def test_a_kept_lease_never_runs_out(keeper: LeaseKeeper, store: JobStore, redis: redis_py.Redis):
    """It is renewed many times within its length."""
    claim = running(store)
    heard = Heard()
    keeper.keep(claim, heard)
    first = redis.zscore(keys.RUNNING, claim.job_id)
    wait_until(lambda: redis.zscore(keys.RUNNING, claim.job_id) != first, "a first renewal")
    let_lease_run_out(redis, claim.job_id)
    wait_until(lambda: redis.zscore(keys.RUNNING, claim.job_id) > 1, "a renewal of a lease nobody took")
    assert not heard.lost.is_set()


def test_a_cancel_comes_with_the_next_renewal(keeper: LeaseKeeper, store: JobStore):
    """The control channel may have been down: the flag in the record is what counts."""
    claim = running(store)
    heard = Heard()
    keeper.keep(claim, heard)
    store.cancel(claim.job_id)
    assert heard.cancelled.wait(10)


def test_an_attempt_hears_that_its_job_was_taken(
    keeper: LeaseKeeper, store: JobStore, sweep: Sweep, redis: redis_py.Redis
):
    """It must stop: whatever it writes from now on is refused."""
    claim = running(store)
    heard = Heard()
    let_lease_run_out(redis, claim.job_id)
    sweep.run_once()
    keeper.keep(claim, heard)
    assert heard.lost.wait(10)


def test_a_job_that_ended_here_is_not_lost(keeper: LeaseKeeper, store: JobStore):
    """The renewal that was under way finds the job ended; that is no news to anybody."""
    heard = Heard()
    claims = [starting(store) for _ in range(30)]
    for claim in claims:
        keeper.keep(claim, heard)
        store.start(claim)
        keeper.drop(claim)
        store.finish(claim, Outcome(state=JobState.SUCCEEDED), final_seq=0)
    keeper.renew()
    assert not heard.lost.is_set()


def test_a_newer_claim_of_the_same_job_stays_kept(keeper: LeaseKeeper, store: JobStore):
    """Dropping an old attempt must not drop the new one on the same worker."""
    old = running(store)
    store.release(old, is_loss=False, reason="drained")
    new = starting(store, old.job_id)
    heard = Heard()
    keeper.keep(new, heard)
    keeper.drop(old)
    store.cancel(new.job_id)
    assert heard.cancelled.wait(10)


@pytest.fixture
def heard_ids(redis: redis_py.Redis, settings: Settings) -> Iterator[list[str]]:
    """Job ids that came over the control channel of worker `w1`."""
    ids: list[str] = []
    channel = ControlChannel(settings.redis_url, "w1", on_cancel=ids.append)
    channel.start()
    wait_until(lambda: channel.is_subscribed, "the subscription")
    yield ids
    channel.stop()


def test_the_control_channel_tells_of_a_cancel(heard_ids: list[str], store: JobStore):
    """Not at the next renewal, but at once."""
    claim = running(store)
    store.cancel(claim.job_id)
    wait_until(lambda: heard_ids == [claim.job_id], "the cancel on the channel")


def test_the_control_channel_comes_back_after_its_connection_was_cut(
    heard_ids: list[str], store: JobStore, redis: redis_py.Redis
):
    """A server that cuts its subscribers is a matter of every long-lived deployment."""
    redis.client_kill_filter(_type="pubsub")
    wait_until(lambda: redis.pubsub_numsub(keys.CONTROL("w1"))[0][1] == 1, "a new subscription")
    claim = running(store)
    store.cancel(claim.job_id)
    wait_until(lambda: heard_ids == [claim.job_id], "the cancel on the channel")


def test_an_unknown_word_on_the_control_channel_is_passed_over(
    heard_ids: list[str], store: JobStore, redis: redis_py.Redis
):
    """A newer web tier may say more than this worker understands."""
    redis.publish(keys.CONTROL("w1"), "sing a song")
    claim = running(store)
    store.cancel(claim.job_id)
    wait_until(lambda: heard_ids == [claim.job_id], "the cancel on the channel")
