"""The plain Celery way, as its users write it: a task that tells its steps, who submits it, who watches.

Celery over Redis with what its documentation gives for losing nothing; a pub/sub channel a job for the
steps, and `update_state` with the newest of them for who comes later. No record beside Celery's own.
"""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Mapping
from typing import Any

import redis
from celery import Celery, Task
from celery.states import READY_STATES

URL = "PLAIN_REDIS_URL"
#: What a worker leaves a running task that is to stop.
DRAIN_TIMEOUT_S = 1.0
#: What a process manager stops a worker with, for a soft shutdown. The other documented way to that,
#: REMAP_SIGTERM=SIGQUIT, makes children ignore the SIGTERM of a revoke.
STOP_SIGNAL = signal.SIGQUIT
#: A viewer that hears nothing for so long asks whether the job has ended.
SILENCE_S = 1.0


def make_app(url: str) -> Celery:
    """The app at this Redis. The visibility timeout is Celery's own, 1 h.

    Tasks go on when the connection is lost, which is the default: told to stop then, they come back only
    at the visibility timeout if it was Redis that died.
    """
    app = Celery("plain", broker=url, backend=url)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_track_started=True,
        worker_prefetch_multiplier=1,
        worker_soft_shutdown_timeout=DRAIN_TIMEOUT_S,
        result_backend_always_retry=True,
        broker_connection_retry_on_startup=True,
    )
    return app


class Telling(Task):
    """A task that tells its steps while it runs."""

    def tell(self, step: Mapping[str, Any]) -> None:
        self.update_state(state="PROGRESS", meta=step)
        _client(self.app).publish(channel(self.request.id), json.dumps(step))


def channel(job_id: str) -> str:
    return f"plain:{job_id}"


def submit(app: Celery, task: str, job_id: str, input: Mapping[str, Any]) -> None:
    """Whoever submits draws the id, so that a viewer can be there before the first step."""
    app.send_task(task, kwargs=dict(input), task_id=job_id)


def cancel(app: Celery, job_id: str) -> None:
    """A broadcast to whichever workers listen; nobody answers."""
    app.control.revoke(job_id, terminate=True)


class Viewer(threading.Thread):
    """Watches a job to its end, and comes back when its connection is lost.

    It cuts itself off after a step with the chance `cuts`. Coming back, it is told the newest step.
    """

    def __init__(self, app: Celery, job_id: str, *, cuts: float, rng: random.Random) -> None:
        super().__init__(name=f"plain-viewer-{job_id[:6]}", daemon=True)
        self.job_id = job_id
        self.cuts = cuts
        #: All that it was told, in order.
        self.steps: list[dict[str, Any]] = []
        self._app = app
        self._rng = rng
        self._is_leaving = threading.Event()
        self._has_ended = False
        # Before the job is submitted, if this is made before.
        self._channel = self._subscribe()

    def leave(self) -> None:
        """Stop looking; whatever it has seen stays."""
        self._is_leaving.set()

    def run(self) -> None:
        self._watch()
        while not (self._has_ended or self._is_leaving.wait(0.02 + 0.1 * self._rng.random())):
            try:
                self._channel = self._subscribe()
                self._ask()
                self._watch()
            except redis.RedisError:
                continue

    def _subscribe(self) -> redis.client.PubSub:
        listening = _client(self._app).pubsub(ignore_subscribe_messages=True)
        listening.subscribe(channel(self.job_id))
        return listening

    def _watch(self) -> None:
        """Until the end of the job, of the connection or of patience."""
        heard_at = time.monotonic()
        with self._channel:
            while not (self._has_ended or self._is_leaving.is_set()):
                try:
                    message = self._channel.get_message(timeout=0.2)
                except redis.RedisError:
                    return
                if message is not None:
                    heard_at = time.monotonic()
                    self.steps.append(json.loads(message["data"]))
                    if self._rng.random() < self.cuts:
                        return
                elif time.monotonic() > heard_at + SILENCE_S:
                    heard_at = time.monotonic()
                    self._ask()

    def _ask(self) -> None:
        """The newest step, or that there will be no more."""
        meta = self._app.backend.get_task_meta(self.job_id)
        self._has_ended = meta["status"] in READY_STATES
        if meta["status"] == "PROGRESS" and meta["result"] not in self.steps:
            self.steps.append(meta["result"])


_clients: dict[str, redis.Redis] = {}


def _client(app: Celery) -> redis.Redis:
    """One for each process and Redis; its defaults try again for some seconds."""
    url = app.conf.broker_url
    return _clients.setdefault(url, redis.Redis.from_url(url))


# As a worker sees it: `celery -A benchmarks.peers.celery_plain worker`.
app = make_app(os.environ.get(URL, "redis://localhost"))
