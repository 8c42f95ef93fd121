"""Step 5. Which group is loaded on a slot: put one there, take it away, notice that it is gone."""

import logging
import os
import time

from rankcast.gpu_worker.forkserver import ForkServer, TaskDescription
from rankcast.gpu_worker.group import GroupFailed, RankGroup
from rankcast.gpu_worker.joblogs import JobLines
from rankcast.gpu_worker.settings import WorkerSettings
from rankcast.gpu_worker.slots import Slot, Slots, devices_of
from rankcast.gpu_worker.supervision import Control
from rankcast.tasks.job import JobErrorInfo

#: For what was on a slot to be gone, when something else is to be loaded there. A process that held
#: much memory takes seconds to die.
CLEAN_TIMEOUT_S = 10.0

logger = logging.getLogger(__name__)


class Loader:
    """Loads groups on the slots of one worker; each slot from the thread that holds it."""

    def __init__(self, forkserver: ForkServer, settings: WorkerSettings, *, slot_count: int) -> None:
        self._forkserver = forkserver
        self._settings = settings
        self._slot_count = slot_count

    def load(
        self, slot: Slot[RankGroup], task: TaskDescription, *, control: Control, lines: JobLines
    ) -> RankGroup:
        """Replace what is on the slot by a group of `task`, ready to run. GroupFailed.

        What its ranks print meanwhile belongs to the job of `lines`, afterwards to none.
        """
        unload(slot)
        if left := what_is_left(slot, CLEAN_TIMEOUT_S):
            raise GroupFailed(JobErrorInfo(kind="slot_not_free", message=f"the slot still has {left}"))
        slot.state = "loading"
        began = time.monotonic()
        try:
            group = RankGroup.start(
                task,
                forkserver=self._forkserver,
                settings=self._settings.deployment,
                on_log=lines,
                devices=devices_of(slot, task.world_size),
                threads=self._threads(task.world_size),
                control=control,
            )
        except GroupFailed as failed:
            slot.remains = failed.remains
            raise
        lines.job_id = None
        slot.fill(group, task.name)
        slot.state = "busy"
        took_ms = round((time.monotonic() - began) * 1000)
        logger.info("slot %d: %s loaded in %d ms, pids %s", slot.index, task.name, took_ms, group.pids)
        return group

    def _threads(self, world_size: int) -> int:
        """What torch may use of the CPU in one rank, so that full slots share the cores."""
        return max(1, (os.cpu_count() or 1) // (self._slot_count * world_size))


def unload(slot: Slot[RankGroup]) -> None:
    """Close the group that is on the slot, if there is one."""
    task = slot.task
    group = slot.empty()
    if group is not None:
        group.close()
        slot.remains = group.remains
        logger.info("slot %d: %s unloaded", slot.index, task)


def drop_broken_group(slot: Slot[RankGroup]) -> None:
    """A group that lost a rank, in a call or while it waited, is gone: the slot is empty."""
    if slot.group is not None and not slot.group.is_usable():
        slot.remains = slot.group.remains
        slot.empty()


def what_is_left(slot: Slot[RankGroup], timeout_s: float = 0.0) -> str:
    """What is still there, after `timeout_s`, of the group that was on the slot; empty for nothing."""
    if slot.remains is None:
        return ""
    left = slot.remains.left(timeout_s, has_gpus=bool(slot.devices))
    if not left:
        slot.remains = None
    return left


def hand_back(slots: Slots[RankGroup], slot: Slot[RankGroup]) -> None:
    """Release the slot; into quarantine while something is left of the group that was there."""
    try:
        if left := what_is_left(slot):
            logger.error("slot %d is in quarantine: it still has %s", slot.index, left)
    finally:
        slots.release(slot)


def end_quarantines(slots: Slots[RankGroup]) -> None:
    """Release the slots that are clean by now."""
    for slot in slots.quarantined():
        if not what_is_left(slot):
            logger.warning("slot %d is clean, and out of quarantine", slot.index)
            slots.release(slot)
