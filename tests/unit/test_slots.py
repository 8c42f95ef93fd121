"""Slots: who gets which part of a host, and what fits where."""

import threading
from dataclasses import replace

import pytest

from rankcast.gpu_worker.remains import Remains
from rankcast.gpu_worker.settings import WorkerSettings
from rankcast.gpu_worker.slots import Slot, Slots, devices_of, lay_out

SETTINGS = WorkerSettings(tasks=("steps.py",), host="h")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def held(slots: Slots[str], task: str) -> Slot[str]:
    slot = slots.acquire(task)
    assert slot is not None
    return slot


def used(slots: Slots[str], task: str) -> int:
    """Run one job of `task`, loading its group where it has to; the slot's index."""
    slot = held(slots, task)
    if not slot.is_warm_for(task):
        slot.empty()
        slot.fill(f"group of {task}", task)
    slots.release(slot)
    return slot.index


def test_a_job_goes_where_its_group_is_warm():
    """A warm slot is preferred to an empty one, whatever their order."""
    slots: Slots[str] = Slots([(), (), ()])
    first = held(slots, "other")
    here = used(slots, "acme/steps")
    slots.release(first)
    assert [used(slots, "acme/steps") for _ in range(3)] == [here] * 3


def test_an_empty_slot_is_taken_before_a_warm_group_is_given_up():
    """Loading on an empty slot costs nobody else their group."""
    slots: Slots[str] = Slots([(), ()])
    assert used(slots, "acme/a") != used(slots, "acme/b")
    assert {slot.task for slot in slots.all()} == {"acme/a", "acme/b"}


def test_the_group_that_waited_longest_makes_room():
    """The least recently used group is the one that another task replaces."""
    clock = Clock()
    slots: Slots[str] = Slots([(), ()], clock=clock)
    for clock.now, task in enumerate(["acme/a", "acme/b", "acme/a"]):
        used(slots, task)
    used(slots, "acme/c")
    assert {slot.task for slot in slots.all()} == {"acme/a", "acme/c"}


def test_a_task_whose_group_dies_at_its_start_stays_off_that_slot_for_a_while():
    """Twice as long each time, at most half a minute; other tasks and other slots go on."""
    clock = Clock()
    slots: Slots[str] = Slots([(), ()], clock=clock)
    slot = held(slots, "acme/a")
    assert slots.back_off(slot, "acme/a") == 1.0
    slots.release(slot)
    assert (slots.free, slots.free_for("acme/a"), slots.free_for("acme/b")) == (2, 1, 2)
    other = held(slots, "acme/a")
    assert other is not slot
    assert slots.acquire("acme/a") is None
    slots.release(other)
    lengths = [slots.back_off(slot, "acme/a") for _ in range(6)]
    assert lengths == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    clock.now += 30.0
    assert slots.free_for("acme/a") == 2


def test_a_group_that_starts_ends_the_back_off():
    """The next death waits as short as the first."""
    slots: Slots[str] = Slots([()], clock=Clock())
    slot = held(slots, "acme/a")
    for _ in range(3):
        slots.back_off(slot, "acme/a")
    slot.fill("a group", "acme/a")
    assert slots.back_off(slot, "acme/a") == 1.0


def test_only_a_group_that_was_idle_for_its_time_is_closed():
    """The idle time counts from the last release, and an empty slot is left alone."""
    clock = Clock()
    slots: Slots[str] = Slots([(), ()], clock=clock)
    used(slots, "acme/a")
    clock.now = 9.0
    assert slots.acquire_idle(10.0) is None
    clock.now = 10.0
    slot = slots.acquire_idle(10.0)
    assert slot is not None
    assert slot.empty() == "group of acme/a"
    slots.release(slot)
    clock.now = 30.0
    assert slots.acquire_idle(10.0) is None


def test_a_job_waits_for_a_slot_that_is_being_loaded_ahead():
    """Loading ahead holds the slot; the job gets it, warm, and not a second group beside it."""
    slots: Slots[str] = Slots([()])
    loading = held(slots, "acme/a")
    got: list[bool] = []
    job = threading.Thread(target=lambda: got.append(held(slots, "acme/a").is_warm_for("acme/a")))
    job.start()
    loading.fill("group", "acme/a")
    slots.release(loading)
    job.join(timeout=5)
    assert got == [True]
    assert slots.free == 0


def test_a_slot_with_remains_is_offered_to_nobody():
    """A job does not wait for it either: another worker may have it. Clean again, it is like any other."""
    slots: Slots[str] = Slots([()])
    slot = held(slots, "acme/a")
    slot.remains = Remains([1])
    slots.release(slot)
    assert (slot.state, slots.free, slots.free_for("acme/a")) == ("quarantined", 0, 0)
    assert slots.acquire("acme/a") is None
    assert slots.acquire_idle(0.0) is None
    [slot] = slots.quarantined()
    slot.remains = None
    slots.release(slot)
    assert held(slots, "acme/a") is slot


def test_the_slot_size_is_the_largest_task():
    """Four GPUs and a task of two: two slots; a smaller task uses the first GPUs of one."""
    devices = lay_out(SETTINGS, {"acme/one": 1, "acme/two": 2}, gpu_count=4)
    assert devices == [(0, 1), (2, 3)]
    slot = Slots[str](devices).all()[1]
    assert devices_of(slot, 2) == (2, 3)
    assert devices_of(slot, 1) == (2,)


def test_gpus_that_fill_no_slot_are_left_over():
    """Five GPUs in slots of two are two slots."""
    assert lay_out(replace(SETTINGS, slot_gpus=2), {"acme/one": 1}, gpu_count=5) == [(0, 1), (2, 3)]


def test_a_worker_keeps_to_the_gpus_it_was_given():
    """Two workers on one host never meet on a GPU."""
    assert lay_out(replace(SETTINGS, gpus=(4, 6)), {"acme/one": 1}, gpu_count=8) == [(4,), (6,)]


def test_without_gpus_the_slots_are_as_many_as_asked_for():
    """On the CPU a slot has no devices, and any world size fits unless a bound is given."""
    on_cpu = replace(SETTINGS, cpu_slots=3)
    assert lay_out(on_cpu, {"acme/two": 2}, gpu_count=0) == [(), (), ()]
    assert lay_out(replace(on_cpu, gpus=()), {"acme/two": 2}, gpu_count=8) == [(), (), ()]
    assert devices_of(Slots[str]([()]).all()[0], 2) == ()


@pytest.mark.parametrize(
    ("change", "world_sizes", "gpu_count", "refusal"),
    [
        ({"slot_gpus": 2}, {"acme/one": 1, "acme/big": 4}, 8, "task 'acme/big' has 4 ranks, and a slot 2"),
        ({"slot_gpus": 2}, {"acme/big": 3}, 0, "task 'acme/big' has 3 ranks, and a slot 2"),
        ({}, {"acme/one": 1, "acme/big": 4}, 2, "task 'acme/big' has 4 ranks.*this worker has 2 GPUs"),
        ({"slot_gpus": 4}, {"acme/one": 1}, 2, "--slot-gpus 4 is more than the 2 GPUs"),
        ({"gpus": (0, 3)}, {"acme/one": 1}, 2, "GPU 3 was asked for, and this host shows 2"),
    ],
)
def test_what_fits_nowhere_is_refused_by_name(
    change: dict[str, object], world_sizes: dict[str, int], gpu_count: int, refusal: str
):
    """At start, not when its first job arrives."""
    with pytest.raises(ValueError, match=refusal):
        lay_out(replace(SETTINGS, **change), world_sizes, gpu_count)  # type: ignore[arg-type]


def test_ranks_share_a_gpu_only_where_that_was_asked_for():
    """For development: two ranks on the one GPU of a workstation."""
    sharing = replace(SETTINGS, is_sharing_gpus=True)
    devices = lay_out(sharing, {"acme/two": 2}, gpu_count=1)
    assert devices == [(0,)]
    assert devices_of(Slots[str](devices).all()[0], 2) == (0, 0)
