"""Jobs of a worker that is known to have died: taken at once, not when their lease runs out.

Who can know it is a worker on the same host. Everybody else waits for the lease (sweep.py).
"""

from collections.abc import Callable
from typing import cast

import redis

from rankcast.tasks import keys
from rankcast.tasks.connect import Scripts, at_the_edge
from rankcast.tasks.keys import JobKeys
from rankcast.tasks.settings import Settings


class Takeover:
    """Looks for dead workers with jobs. Used by one thread; StoreUnavailable."""

    def __init__(self, client: redis.Redis, settings: Settings, *, has_died: Callable[[str], bool]) -> None:
        self._redis = client
        self._scripts = Scripts(client)
        self._max_losses = settings.max_losses
        self._has_died = has_died
        #: Nothing is left to be taken from these; a dead worker claims no more.
        self._done: frozenset[str] = frozenset()

    def run_once(self) -> list[str]:
        """Give back the jobs of dead workers, each as a loss; their ids. One short call while none died."""
        with at_the_edge():
            known = [each.decode() for each in cast(list[bytes], self._redis.zrange(keys.WORKERS, 0, -1))]
        dead = {worker for worker in known if worker not in self._done and self._has_died(worker)}
        taken = self._take_from(dead) if dead else []
        self._done = (self._done | dead) & frozenset(known)
        return taken

    def _take_from(self, dead: set[str]) -> list[str]:
        with at_the_edge():
            job_ids = [each.decode() for each in cast(list[bytes], self._redis.zrange(keys.RUNNING, 0, -1))]
            pipe = self._redis.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hget(JobKeys(job_id).record, "worker")
            workers = [each.decode() if each else "" for each in pipe.execute()]
        return [
            job_id
            for job_id, worker in zip(job_ids, workers, strict=True)
            if worker in dead and self._scripts.run("take", job_id, worker, self._max_losses)
        ]
