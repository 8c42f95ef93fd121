"""How a slot is handed back, with remains and without."""

from collections.abc import Iterable

import pytest

from rankcast.gpu_worker.group import RankGroup
from rankcast.gpu_worker.loading import end_quarantines, hand_back
from rankcast.gpu_worker.processes import Process
from rankcast.gpu_worker.remains import Remains
from rankcast.gpu_worker.slots import Slot, Slots


def nobody() -> Iterable[Process]:
    return ()


def held(slots: Slots[RankGroup]) -> Slot[RankGroup]:
    slot = slots.acquire("acme/a")
    assert slot is not None
    return slot


@pytest.mark.parametrize(("devices", "state"), [((0, 1), "quarantined"), ((), "idle")])
def test_a_slot_with_gpus_waits_for_their_memory(
    devices: tuple[int, ...], state: str, caplog: pytest.LogCaptureFixture
):
    """The driver may take longer than the processes. On the CPU nobody is asked."""
    holding = {10}
    slots: Slots[RankGroup] = Slots([devices])
    slot = held(slots)
    slot.remains = Remains([10], processes=nobody, memory_holders=lambda: frozenset(holding))
    hand_back(slots, slot)
    end_quarantines(slots)
    assert slot.state == state
    assert ("it still has memory of the dead processes 10" in caplog.text) == bool(devices)
    holding.clear()
    end_quarantines(slots)
    assert (slot.state, slot.remains) == ("idle", None)
    assert held(slots) is slot


def test_a_slot_comes_back_though_nobody_knows_what_is_left():
    """It is asked again."""

    def fails() -> Iterable[Process]:
        raise OSError("too many open files")

    slots: Slots[RankGroup] = Slots([()])
    slot = held(slots)
    slot.remains = Remains([10], processes=fails)
    with pytest.raises(OSError, match="too many"):
        hand_back(slots, slot)
    assert slot.state == "quarantined"
