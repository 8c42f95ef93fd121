"""Step 5. Slots: which part of this host an attempt runs on, and which group is warm there.

Pure bookkeeping: what a group is, and how one is started or closed, is the caller's affair. A slot
is handed to one thread at a time, and only that thread touches its group.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar

from rankcast.gpu_worker.remains import Remains
from rankcast.gpu_worker.settings import WorkerSettings

#: After a group died at its start: how long its task stays off that slot; twice as long each time.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0

G = TypeVar("G")
#: `loading` and `busy` slots are held by a thread, `idle` ones may be acquired, and `quarantined` ones
#: not before what their last group left there is gone.
SlotState = Literal["idle", "loading", "busy", "quarantined"]


class Pause(NamedTuple):
    """Until when a task stays off a slot, and for how long it was told to."""

    until: float
    length_s: float


@dataclass(slots=True, kw_only=True, eq=False)
class Slot(Generic[G]):
    """One part of the host: its GPUs (none on the CPU), and the group that is loaded on them."""

    index: int
    devices: tuple[int, ...]
    state: SlotState = "idle"
    #: The loaded group and the task it runs; both None where nothing is loaded.
    group: G | None = None
    task: str | None = None
    job_id: str | None = None
    #: Of the group that was here last, as far as it is not known to be gone.
    remains: Remains | None = None
    #: When it was last given back, on the clock of its Slots.
    idle_since: float = 0.0
    #: Tasks whose group died here when it was last started.
    pauses: dict[str, Pause] = field(default_factory=dict)

    def is_warm_for(self, task: str) -> bool:
        return self.task == task

    def fill(self, group: G, task: str) -> None:
        """Remember the group that was just loaded."""
        self.group, self.task = group, task
        self.pauses.pop(task, None)

    def empty(self) -> G | None:
        """Forget the group and return it, to be closed or killed."""
        group, self.group, self.task = self.group, None, None
        return group


class Slots(Generic[G]):
    """The slots of one worker. Safe to use from any thread."""

    def __init__(
        self, devices: Sequence[tuple[int, ...]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._slots = [Slot[G](index=index, devices=each) for index, each in enumerate(devices)]
        self._clock = clock
        self._freed = threading.Condition()

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def free(self) -> int:
        """How many slots may be acquired."""
        return sum(slot.state == "idle" for slot in self._slots)

    def quarantined(self) -> Sequence[Slot[G]]:
        """The slots that may not, to be released once they are clean."""
        return [slot for slot in self._slots if slot.state == "quarantined"]

    def free_for(self, task: str) -> int:
        """How many of them do not back off from `task`."""
        return len(self._free_for(task))

    def acquire(self, task: str) -> Slot[G] | None:
        """Hold a slot for `task`: one that is warm for it, else an empty one, else the least used;
        None while every free one backs off from it, or none is free and one is quarantined.

        There is one thread per slot, so this waits only for a slot that loads a group ahead of its
        first job.
        """
        with self._freed:
            self._freed.wait_for(lambda: self.free or self.quarantined())
            slot = min(self._free_for(task), key=lambda s: _preference(s, task), default=None)
            if slot is not None:
                slot.state = "busy"
            return slot

    def back_off(self, slot: Slot[G], task: str) -> float:
        """Keep `task` off the slot for a while, since its group died at its start; the seconds.

        What kills it there may kill it again at once, and each time costs a job one of its losses.
        Nobody waits meanwhile: other tasks run, and so does this one on other slots and workers.
        """
        before = slot.pauses.get(task)
        length_s = min(2 * before.length_s, LONGEST_PAUSE_S) if before else FIRST_PAUSE_S
        slot.pauses[task] = Pause(self._clock() + length_s, length_s)
        return length_s

    def _free_for(self, task: str) -> list[Slot[G]]:
        now = self._clock()
        return [
            slot
            for slot in self._slots
            if slot.state == "idle" and not (task in slot.pauses and now < slot.pauses[task].until)
        ]

    def release(self, slot: Slot[G]) -> None:
        """Give a slot back, with whatever group it now has; with remains it goes into quarantine."""
        with self._freed:
            slot.state = "idle" if slot.remains is None else "quarantined"
            slot.job_id, slot.idle_since = None, self._clock()
            self._freed.notify()

    def acquire_idle(self, ttl_s: float) -> Slot[G] | None:
        """Hold a slot whose group nobody used for `ttl_s` seconds, so that it can be closed."""
        with self._freed:
            for slot in self._slots:
                if (
                    slot.state == "idle"
                    and slot.group is not None
                    and self._clock() - slot.idle_since >= ttl_s
                ):
                    slot.state = "busy"
                    return slot
        return None

    def all(self) -> Sequence[Slot[G]]:
        """Every slot, to look at: heartbeats tell what they see, without holding anything up."""
        return tuple(self._slots)


def _preference(slot: Slot[G], task: str) -> tuple[bool, bool, float]:
    return (not slot.is_warm_for(task), slot.group is not None, slot.idle_since)


def lay_out(
    settings: WorkerSettings, world_sizes: Mapping[str, int], gpu_count: int
) -> list[tuple[int, ...]]:
    """The devices of each slot, for tasks of these world sizes on a host with `gpu_count` GPUs.

    On the CPU a slot has no devices, and `slot_gpus` is how many ranks it may hold. ValueError,
    with the name of the task or of the option, for what fits nowhere.
    """
    gpus = settings.gpus if settings.gpus is not None else tuple(range(gpu_count))
    if absent := [gpu for gpu in gpus if gpu >= gpu_count]:
        raise ValueError(f"GPU {absent[0]} was asked for, and this host shows {gpu_count}")
    size = settings.slot_gpus or _largest(settings, world_sizes, gpus)
    if gpus and size > len(gpus):
        raise ValueError(_too_large(settings, world_sizes, size, len(gpus)))
    for task, world_size in world_sizes.items():
        if world_size > size and not settings.is_sharing_gpus:
            raise ValueError(f"task {task!r} has {world_size} ranks, and a slot {size}: raise --slot-gpus")
    if not gpus:
        return [()] * settings.cpu_slots
    return [gpus[first : first + size] for first in range(0, len(gpus) - size + 1, size)]


def _largest(settings: WorkerSettings, world_sizes: Mapping[str, int], gpus: tuple[int, ...]) -> int:
    largest = max(world_sizes.values())
    return min(largest, len(gpus)) if settings.is_sharing_gpus and gpus else largest


def _too_large(settings: WorkerSettings, world_sizes: Mapping[str, int], size: int, gpu_count: int) -> str:
    if settings.slot_gpus:
        return f"--slot-gpus {size} is more than the {gpu_count} GPUs of this worker"
    task = max(world_sizes, key=lambda name: world_sizes[name])
    return f"task {task!r} has {size} ranks, one GPU each, and this worker has {gpu_count} GPUs"


def devices_of(slot: Slot[G], world_size: int) -> tuple[int, ...]:
    """The GPU of each rank: the slot's first ones, in turn where ranks share; none on the CPU."""
    if not slot.devices:
        return ()
    return tuple(slot.devices[rank % len(slot.devices)] for rank in range(world_size))
