"""What once broke a model of this protocol, step by step: it holds, and without its rule it breaks.

The walks of test_protocol_model.py may or may not come by here.
"""

from collections.abc import Callable, Iterator

import pytest
from protocol_bugs import RULES, without
from protocol_model import World
from protocol_parts import OUTCOMES, Viewer, Violation, Worker
from rewinding_redis import Ran, RewindingRedis

TRACES: dict[str, Callable[[World], None]] = {}


def trace(*rules: str) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    """A walk that one of these rules saves; each of them is taken away in a test of its own."""

    def enter(walk: Callable[[World], None]) -> Callable[[World], None]:
        TRACES.update(dict.fromkeys(rules, walk))
        return walk

    return enter


def busy(worker: Worker) -> None:
    """It has claimed a job, and its call runs."""
    for _ in range(50):
        if worker.is_calling:
            return
        worker.step()
        worker.world.redis.now_s += 0.1
    raise Violation(f"{worker.name} gets no job")


def streams(worker: Worker, count: int = 1) -> None:
    """User code streams so many events, and the log has them."""
    for _ in range(count):
        worker.emit()
    worker.publisher.step()


def ends(worker: Worker, how: str = "succeed") -> None:
    worker.order = how
    for _ in range(10):
        worker.publisher.step()
        worker.step()
        if worker.claim is None:
            return


def gives_back_unheard(worker: Worker) -> None:
    """It gives its job back, and the reply is lost."""
    worker.order = "drain"
    worker.publisher.step()
    worker.step()
    worker.client.loses_reply = True
    worker.step()


def swept(world: World) -> Ran:
    """Both workers freeze until a sweep takes the job; what ran last before that."""
    for worker in world.workers:
        world.freeze(worker)
    while not any(b"silent" in (event.data or b"") for event in world.log_of(world.job_ids[0])):
        before = world.redis.ran[-1]
        world.tick(2)
    return before


@trace("a fence that never comes back")
def a_fence_is_not_used_twice(world: World) -> None:
    """A claim is lost with its worker; the next attempt's ids are not those that a viewer holds."""
    busy(world.workers[0])
    streams(world.workers[0], 2)
    world.viewers.append(Viewer(world.webs[0], world.job_ids[0]))
    world.viewers[0].read()
    world.crash(3)
    world.kill(0)
    for _ in range(4):
        world.tick()
    busy(world.workers[1])
    streams(world.workers[1], 3)


@trace("contiguity")
def a_hole_after_a_restart_is_filled(world: World) -> None:
    """Rank 0 did not notice it: its redo buffer had no room, and its connection no time to tell."""
    worker = world.workers[0]
    busy(worker)
    streams(worker)
    worker.rank_redo._moves.clear()
    world.crash(1)
    streams(worker)


@trace("comparing with the record")
def a_lost_end_is_found(world: World) -> None:
    """Nothing comes after it that could show the hole."""
    busy(world.workers[0])
    viewer = Viewer(world.webs[0], world.job_ids[0])
    viewer.read()
    ends(world.workers[0])
    world.webs[0].hear(lambda: True)
    world.tick()
    viewer.read()
    if not viewer.is_complete:
        raise Violation("the viewer never sees the end")


@trace("prev")
def events_lost_at_a_seam_are_found(world: World) -> None:
    """The first event of an attempt looks right whatever was lost before it."""
    web, worker = world.webs[0], world.workers[0]
    busy(worker)
    world.viewers.append(Viewer(web, world.job_ids[0]))
    streams(worker, 3)
    web.hear()
    world.viewers[0].read()
    streams(worker)
    ends(worker, "drain")
    web.hear(lambda: True)
    busy(world.workers[1])
    streams(world.workers[1])
    web.hear()
    world.viewers[0].read()


@trace("a state that is asked for")
def a_thawed_rank_writes_nothing_after_the_end(world: World) -> None:
    """Its fence and token are right, and its job has ended: its parent did not wait for it."""
    worker = world.workers[0]
    busy(worker)
    worker.emit()
    assert worker.claim is not None
    worker.store.finish(worker.claim, OUTCOMES["fail"], 1)
    worker.is_excused = True
    worker.publisher.step()
    worker.emit()
    worker.publisher.step()
    world.check()


@trace("redo")
def an_acknowledged_cancel_survives_a_restart(world: World) -> None:
    """Of a job that nobody works on yet."""
    assert world.cancel(world.job_ids[0])
    world.crash(1)


@trace("events in the redo", "time to settle")
def a_seen_end_survives_a_restart(world: World) -> None:
    """From the claim to the end all of it was lost, and an idle worker is the first to be back."""
    before = world.redis.ran[-1]
    busy(world.workers[0])
    streams(world.workers[0], 3)
    ends(world.workers[0])
    world.check()
    world.crash_to(before)
    for _ in range(3):
        world.workers[1].step()
    world.tick()
    world.tick()


@trace("a second try")
def a_cancel_waits_for_its_job_to_come_back(world: World) -> None:
    """Submitted at one web process, cancelled at the other, which is the first to be back."""
    job_id = world.submit()
    assert job_id is not None
    assert world.cancel(job_id)
    world.crash(2)
    world.tick(order=[1, 0, 2, 3, 4, 5, 6, 7])


@trace("a job that is missing is not gone")
def an_accepted_job_is_not_denied(world: World) -> None:
    """Submitted at one web process; the other, where its viewer is, is the first to be back."""
    job_id = world.submit()
    assert job_id is not None
    world.viewers.append(Viewer(world.webs[1], job_id))
    world.viewers[0].read()
    world.crash(1)
    world.tick(order=[1, 0, 2, 3, 4, 5, 6, 7])
    world.viewers[0].read()
    assert not world.viewers[0].is_complete


@trace("grace")
def an_outage_costs_no_healthy_worker_its_job(world: World) -> None:
    """Two sweepers are quicker than its first renew."""
    busy(world.workers[0])
    world.outage(20, order=[0, 1, 5, 6, 2, 3, 4, 7])


@trace("a fence for whoever ends a job")
def a_lost_takeover_leaves_no_cursor_behind(world: World) -> None:
    """A viewer saw the job queued again; Redis forgot it, and the worker thaws and goes on."""
    worker = world.workers[0]
    busy(worker)
    streams(worker)
    world.viewers.append(Viewer(world.webs[0], world.job_ids[0]))
    before = swept(world)
    world.viewers[0].read()
    world.crash_to(before)
    world.thaw(worker)
    streams(worker, 2)


@trace("a give-back that finds itself done")
def a_job_that_was_given_back_stays_so(world: World) -> None:
    """The reply is lost, and before it is asked for again another claims the job and ends it."""
    first, second = world.workers
    busy(first)
    before = world.redis.ran[-1]
    gives_back_unheard(first)
    busy(second)
    ends(second)
    world.check()
    end = world.log_of(world.job_ids[0])[-1]
    first.step()
    world.crash_to(before)
    for _ in range(3):
        world.tick()
    if world.log_of(world.job_ids[0])[-1] != end:
        raise Violation(f"{end} was seen, and both workers live")


@trace("another's give-back is not one's own")
def a_thawed_worker_tells_again_only_what_it_did(world: World) -> None:
    """A sweep gave its job back, which a viewer saw, before it did so itself; and Redis forgot the sweep."""
    worker = world.workers[0]
    busy(worker)
    before = swept(world)
    world.viewers.append(Viewer(world.webs[0], world.job_ids[0]))
    world.viewers[0].read()
    world.thaw(worker)
    worker.order = "lose"
    worker.step()
    worker.step()
    world.crash_to(before)


@trace("a place for each move")
def a_claim_is_made_again_only_at_its_place(world: World) -> None:
    """The attempt before it was lost as well, and its worker is the last to be back."""
    first, second = world.workers
    before = world.redis.ran[-1]
    busy(first)
    ends(first, "drain")
    busy(second)
    world.viewers.append(Viewer(world.webs[0], world.job_ids[0]))
    world.viewers[0].read()
    world.crash_to(before)
    world.tick(order=[5, 6, 7, 0, 1, 2, 3, 4])
    world.tick()


@pytest.fixture
def world() -> Iterator[World]:
    with RewindingRedis().ticking() as redis:
        world = World(redis)
        world.tick(4)
        world.tick(4)
        world.submit()
        yield world


def walk(world: World, rule: str) -> None:
    TRACES[rule](world)
    world.check()
    world.heal()


@pytest.mark.parametrize("rule", RULES)
def test_it_holds(world: World, rule: str) -> None:
    walk(world, rule)


@pytest.mark.parametrize("rule", RULES)
def test_it_breaks_without_its_rule(world: World, rule: str) -> None:
    """So the walk above proves something, and the rule is needed."""
    with without(rule), pytest.raises(Violation):
        walk(world, rule)
