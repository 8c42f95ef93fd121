"""What the benchmark of small events finds in steps whose costs are known."""

import numpy as np
import pytest

from benchmarks.excess import NEIGHBOURS, Taken, excess

STEP_NS = 2_500_000
BATCH_EVERY_NS = 102_000_000


def steps(event_ns: int, batch_ns: int, *, count: int = 80_000) -> Taken:
    """On a machine that is now slower and now faster, and where somebody else stops a step now and then. An
    event costs two steps something, a batch the one that it is sent in and both beside it."""
    draws = np.random.default_rng(1)
    speed = 1 + 0.1 * np.sin(np.arange(count) / 500) + 0.05 * draws.standard_normal(count)
    cpu = STEP_NS * speed + 10 * STEP_NS * (draws.random(count) < 0.002)
    # It is slow for some 20 ms now and then.
    cpu *= 1 + 0.3 * np.repeat(draws.random(count // NEIGHBOURS) < 0.1, NEIGHBOURS)
    events = due(cpu, draws)
    cpu += 0.8 * event_ns * events + 0.2 * event_ns * np.roll(events, 1)
    before = cpu.cumsum()
    batches = np.arange(BATCH_EVERY_NS, before[-1], BATCH_EVERY_NS)
    sent_in = np.bincount(np.searchsorted(before, batches), minlength=count)
    for shift, share in ((-1, 0.3), (0, 0.5), (1, 0.2)):
        cpu += share * batch_ns * np.roll(sent_in, shift)
    ended = cpu.cumsum()
    # They move with their steps.
    batches = np.interp(batches, before, ended)
    return Taken(list(ended), list(cpu), list(events), list(batches))


def due(cpu: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """As in benchmarks.tasks: what has become due goes before steps that are drawn from the next few."""
    begun = (cpu.cumsum() - cpu)[::NEIGHBOURS]
    counts = np.diff((begun / 10_000_000).astype(int), prepend=0)
    events = np.zeros(len(cpu), int)
    for group, more in enumerate(counts):
        np.add.at(events, group * NEIGHBOURS + draws.integers(0, NEIGHBOURS, more), 1)
    return events


@pytest.mark.parametrize(("event_us", "batch_us"), [(0, 0), (50, 0), (0, 300), (70, 350)])
def test_what_an_event_and_a_batch_cost_is_found(event_us, batch_us):
    """To less than a tenth of a percent in 200 s, and it knows how well."""
    found = excess(steps(event_us * 1000, batch_us * 1000))
    assert found.event_us == pytest.approx(event_us, abs=3 * found.event_error_us)
    assert found.batch_us == pytest.approx(batch_us, abs=3 * found.batch_error_us)
    real = (found.events_per_s * event_us + found.batches_per_s * batch_us) / 1e4
    assert found.percent == pytest.approx(real, abs=3 * found.error_percent)
    assert found.error_percent < 0.04


def test_a_moment_alone_costs_nothing():
    """Though it is long steps that any moment rather falls into."""
    taken = steps(0, 0)
    draws = np.random.default_rng(2)
    moments = np.sort(draws.uniform(0, taken.ended[-1], 1000))
    found = excess(taken._replace(batches=list(moments)))
    assert abs(found.batch_us) < 3 * found.batch_error_us
