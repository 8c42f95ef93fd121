"""A cancel at every point of a job's life, against every way in which its attempt may go on."""

import contextlib
import itertools
from collections.abc import Callable

import pytest
import redis as redis_py
from jobs import FAILURE, SUCCESS, append, claim_next, let_lease_run_out, submit

from rankcast.tasks.errors import StaleAttempt
from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Claim
from rankcast.tasks.state import JobState
from rankcast.tasks.store import JobStore
from rankcast.tasks.sweep import Sweep


@pytest.fixture
def redis(redis_or_fake: redis_py.Redis) -> redis_py.Redis:
    return redis_or_fake


class Life:
    """One job, moved on by whoever has its newest claim; what is refused is passed over."""

    def __init__(self, redis: redis_py.Redis, store: JobStore, event_log: EventLog, sweep: Sweep) -> None:
        self._redis, self._store, self._log, self._sweep = redis, store, event_log, sweep
        self._claim: Claim | None = None
        self.job_id = submit(store)

    def claim(self) -> None:
        self._claim = claim_next(self._store, self.job_id)

    def start(self) -> None:
        self._do(self._store.start)

    def tell(self) -> None:
        self._do(lambda claim: append(self._log, claim, 2, "1"))

    def succeed(self) -> None:
        self._do(lambda claim: self._store.finish(claim, SUCCESS, 0))

    def fail(self) -> None:
        self._do(lambda claim: self._store.finish(claim, FAILURE, 0))

    def drain(self) -> None:
        self._do(lambda claim: self._store.release(claim, is_loss=False, reason="drain"))

    def lose(self) -> None:
        self._do(lambda claim: self._store.release(claim, is_loss=True, reason="gone"))

    def fall_silent(self) -> None:
        if self._store.record(self.job_id).state in (JobState.STARTING, JobState.RUNNING):
            let_lease_run_out(self._redis, self.job_id)
            self._sweep.run_once()

    def _do(self, move: Callable[[Claim], object]) -> None:
        if self._claim is not None:
            with contextlib.suppress(StaleAttempt):
                move(self._claim)


ATTEMPTS = ("succeed", "fail", "drain", "lose", "fall_silent")


@pytest.mark.parametrize(("first", "second"), list(itertools.product(ATTEMPTS, ATTEMPTS)))
def test_an_acknowledged_cancel_decides_wherever_it_falls(redis, store, event_log, sweep, first, second):
    """Two attempts, each with its own end, and one cancel before, between or behind any two moves."""
    moves = ["claim", "start", "tell", first, "claim", "start", "tell", second]
    sweep.run_once()
    for at in range(len(moves) + 1):
        life = Life(redis, store, event_log, sweep)
        for move in moves[:at]:
            getattr(life, move)()
        had_ended = store.cancel(life.job_id).is_ended
        before = store.record(life.job_id).state
        for move in moves[at:]:
            getattr(life, move)()
        state = store.record(life.job_id).state
        assert state is (before if had_ended else JobState.CANCELLED), (
            f"cancelled before move {at} of {moves}"
        )
