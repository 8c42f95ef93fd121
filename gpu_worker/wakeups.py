"""The worker wakes itself, so that it matters little what becomes of Celery's messages.

A message may be lost with the broker, lie with a busy worker, or sit in a dead one's hands for
hours. Once a second a worker looks at the queues of its tasks, and sends itself as many wake-ups as its
free slots can use, through a queue of its own: so Celery counts these jobs like all others. Where no
slot is ever free, because other jobs have messages, a wake-up stands in line with theirs.
"""

import logging
import time
from collections.abc import Callable, Sequence
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
        self,
        app: Celery,
        store: JobStore,
        slots: Slots[Any],
        tasks: Sequence[str],
        own: Queue,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._store = store
        self._slots = slots
        self._tasks = list(tasks)
        self._queue = own
        self._clock = clock
        #: First in the queue of each task at the last look, and when a wake-up for it is due.
        self._first: dict[str, tuple[str, float]] = {}

    def look(self) -> None:
        """Send a wake-up for each free slot that a queued job could use; where there is none, for the first
        job of each queue, once, if it was that at the last look too. StoreUnavailable.

        A job whose message is just being read gets a second one: that one finds nothing to claim.
        """
        # Every task is the first to be asked for in its turn: none starves behind another.
        self._tasks.append(self._tasks.pop(0))
        free = self._slots.free
        if not free:
            self._stand_in_line()
        for task in self._tasks:
            if not free:
                return
            usable = min(free, self._slots.free_for(task))
            for job_id in self._store.heads_of(task, usable) if usable else ():
                free -= 1
                self._wake(task, job_id)

    def _stand_in_line(self) -> None:
        """A job with a message is quicker at a slot that frees than any look. But the broker asks all queues
        in turn, this worker's own among them."""
        now = self._clock()
        for task in self._tasks:
            first, due_at = self._first.get(task, ("", 0.0))
            head = self._store.head_of(task)
            if head is None:
                self._first.pop(task, None)
            elif head != first:
                # Its own message may be on its way.
                self._first[task] = head, now
            elif now >= due_at:
                self._first[task] = head, now + OWN_QUEUE_TTL_S
                self._wake(task, head)

    def _wake(self, task: str, job_id: str) -> None:
        logger.debug("job %s is queued and nobody came: waking ourselves", job_id)
        wake(self._app, task=task, job_id=job_id, to=self._queue)
