"""Step 5. Which group is loaded on a slot: put one there, take it away, notice that it is gone."""

import logging
import os
import time

from rankcast.gpu_worker.forkserver import ForkServer, TaskDescription
from rankcast.gpu_worker.group import RankGroup
from rankcast.gpu_worker.joblogs import JobLines
from rankcast.gpu_worker.settings import WorkerSettings
from rankcast.gpu_worker.slots import Slot, devices_of
from rankcast.gpu_worker.supervision import Control

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
        slot.state = "loading"
        began = time.monotonic()
        group = RankGroup.start(
            task,
            forkserver=self._forkserver,
            settings=self._settings.deployment,
            on_log=lines,
            devices=devices_of(slot, task.world_size),
            threads=self._threads(task.world_size),
            control=control,
        )
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
        logger.info("slot %d: %s unloaded", slot.index, task)


def drop_broken_group(slot: Slot[RankGroup]) -> None:
    """A group that lost a rank, in a call or while it waited, is gone: the slot is empty."""
    if slot.group is not None and not slot.group.is_usable():
        slot.empty()
