"""The worker wakes itself, so that it matters little what becomes of Celery's messages.

A message may be lost with the broker, lie with a busy worker, or sit in a dead one's hands for
hours. Once a second a worker with a free slot looks at the queues of its tasks, and sends itself as
many wake-ups as it can use, through a queue of its own: so Celery counts these jobs like all others.
"""

import logging
from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.entity import Queue

from rankcast.gpu_worker.slots import Slots
from rankcast.tasks.celery_app import queue, wake
from rankcast.tasks.store import JobStore

LOOK_EVERY_S = 1.0
#: What a killed worker had not read any more goes after this time.
OWN_QUEUE_TTL_S = 60

logger = logging.getLogger(__name__)


def own_queue(worker_id: str) -> Queue:
    return queue(f"rankcast.worker.{worker_id}", ttl_s=OWN_QUEUE_TTL_S)


class WakeUps:
    """Looks for queued jobs. Called from one thread."""

    def __init__(
        self, app: Celery, store: JobStore, slots: Slots[Any], tasks: Sequence[str], own: Queue
    ) -> None:
        self._app = app
        self._store = store
        self._slots = slots
        self._tasks = list(tasks)
        self._queue = own

    def look(self) -> None:
        """Send a wake-up for each free slot that a queued job could use. StoreUnavailable.

        A job whose message is just being read gets a second one: that one finds nothing to claim.
        """
        # Every task is the first to be asked for in its turn: none starves behind another.
        self._tasks.append(self._tasks.pop(0))
        free = self._slots.free
        for task in self._tasks:
            if not free:
                return
            usable = min(free, self._slots.free_for(task))
            for job_id in self._store.heads_of(task, usable) if usable else ():
                free -= 1
                logger.debug("job %s is queued and nobody told: waking ourselves", job_id)
                wake(self._app, task=task, job_id=job_id, to=self._queue)
