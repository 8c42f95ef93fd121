"""The scripts and the table of tasks/state.py agree: every move, from every state."""

import contextlib
from collections.abc import Callable

import pytest
import redis as redis_py
from jobs import FAILURE, SUCCESS, claim_next, running, starting

from rankcast.tasks import keys
from rankcast.tasks.errors import StaleAttempt
from rankcast.tasks.job import Claim, Outcome
from rankcast.tasks.state import TRANSITIONS, JobState, may_move
from rankcast.tasks.store import JobStore
from rankcast.tasks.sweep import Sweep

CANCELLED = Outcome(state=JobState.CANCELLED)


@pytest.fixture
def redis(redis_or_fake: redis_py.Redis) -> redis_py.Redis:
    return redis_or_fake


class World:
    """One job, the claim that was made on it last, and every move that anybody can try."""

    def __init__(self, redis: redis_py.Redis, store: JobStore, sweep: Sweep, state: JobState) -> None:
        self.redis, self.store, self.sweep = redis, store, sweep
        # A claim that is known to all moves, also where the job is queued again.
        self.claim: Claim = starting(store) if state is JobState.STARTING else running(store)
        self.job_id = self.claim.job_id
        if state is JobState.QUEUED:
            store.release(self.claim, is_loss=False, reason="drain")
        elif state.is_terminal:
            outcome = {JobState.SUCCEEDED: SUCCESS, JobState.FAILED: FAILURE}.get(state, CANCELLED)
            store.finish(self.claim, outcome, 1)

    @property
    def state(self) -> JobState:
        return self.store.record(self.job_id).state

    def sweep_lease(self) -> None:
        self.redis.zadd(keys.RUNNING, {self.job_id: 1}, xx=True)
        self.sweep.run_once()

    def lose_for_the_last_time(self) -> None:
        self.redis.hset(keys.JobKeys(self.job_id).record, "losses", 2)
        self.store.release(self.claim, is_loss=True, reason="SIGKILL")

    def sweep_start_deadline(self) -> None:
        self.redis.zadd(keys.DEADLINES, {self.job_id: 1})
        self.sweep.run_once()

    def cancel_after_the_lease(self) -> None:
        self.redis.zadd(keys.RUNNING, {self.job_id: 1}, xx=True)
        self.store.cancel(self.job_id)


MOVES: dict[str, Callable[[World], object]] = {
    "claim": lambda world: claim_next(world.store, world.job_id),
    "start": lambda world: world.store.start(world.claim),
    "succeed": lambda world: world.store.finish(world.claim, SUCCESS, 1),
    "fail": lambda world: world.store.finish(world.claim, FAILURE, 1),
    "end cancelled": lambda world: world.store.finish(world.claim, CANCELLED, 1),
    "drain": lambda world: world.store.release(world.claim, is_loss=False, reason="drain"),
    "lose": lambda world: world.store.release(world.claim, is_loss=True, reason="SIGKILL"),
    "lose for the last time": World.lose_for_the_last_time,
    "cancel": lambda world: world.store.cancel(world.job_id),
    "cancel after the lease": World.cancel_after_the_lease,
    "sweep of the lease": World.sweep_lease,
    "sweep of the start deadline": World.sweep_start_deadline,
}


@pytest.mark.parametrize("state", JobState)
def test_every_move_from_every_state_is_in_the_table(redis, store, sweep, state):
    """What a script refuses leaves the job as it was; and what the table allows, some script does."""
    reached = set()
    for name, move in MOVES.items():
        world = World(redis, store, sweep, state)
        assert world.state is state
        with contextlib.suppress(StaleAttempt, ValueError):
            move(world)
        after = world.state
        assert after is state or may_move(state, after), f"{name} made {after} of {state}"
        reached.add(after)
        redis.flushall()
    assert reached - {state} == TRANSITIONS[state]
