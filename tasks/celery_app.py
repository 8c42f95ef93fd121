"""Step 3. The one Celery task, `run_job(job_id)`, and the queues its wake-ups travel in.

A Celery message here is only a wake-up: the job record in Redis says what there is to do, in which
order and for how long. So nothing is promised about a message: it may be lost, doubled, late or
stale, and priority is the record's affair. Only its name and form stand here; the body lives with
the workers (gpu_worker/worker.py), so that the web tier never imports it.
"""

import logging
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import urlencode

from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError

from rankcast.tasks.settings import Settings

RUN_JOB = "rankcast.run_job"

#: The default exchange routes by queue name: kombu then keeps no binding table in Redis, in
#: which the queue of every worker that was ever killed would stay.
DIRECT = Exchange("")  # type: ignore[no-untyped-call]

#: Between two tries to reach the broker, however long it has been away.
RETRY_S = 0.5

logger = logging.getLogger(__name__)


class SteadyConnection(Connection):
    """Tries again at a steady pace. kombu's own pauses grow up to half a minute, for which a worker would
    hear nothing from a Redis that is back."""

    def ensure_connection(
        self, errback: Callable[..., None] | None = None, max_retries: int | None = None, **options: Any
    ) -> Self:
        pace = {"interval_start": RETRY_S, "interval_step": 0, "interval_max": RETRY_S}
        told = errback and _once(errback)
        super().ensure_connection(told, max_retries, **{**pace, **options})  # type: ignore[no-untyped-call]
        return self


def _once(errback: Callable[..., None]) -> Callable[..., None]:
    """The first failed try is told, and not the many after it."""
    is_told = False

    def tell(*failure: Any) -> None:
        nonlocal is_told
        if not is_told:
            is_told = True
            errback(*failure)

    return tell


class Broker(AMQP):  # type: ignore[misc]
    """Celery's messaging over these connections."""

    Connection = SteadyConnection


def queue_of(task: str) -> str:
    """Name of the queue that wakes the workers which serve `task`."""
    return f"rankcast.{task}"


def queue(name: str, *, ttl_s: int | None = None) -> Queue:
    """A queue of wake-ups; with `ttl_s` it goes away when nobody wrote to it for so long."""
    return Queue(name, DIRECT, routing_key=name, expires=ttl_s)  # type: ignore[no-untyped-call]


def make_app(settings: Settings) -> Celery:
    """The Celery app of web tier and workers; the same for both, so that they understand each other."""
    app = Celery("rankcast", broker=verifying(settings.broker_url), amqp=Broker, set_as_current=False)
    app.conf.update(
        # Nothing that comes out of Redis may become code.
        task_serializer="json",
        accept_content=["json"],
        event_serializer="json",
        # Outputs are in the job's record; a second store of them could only disagree.
        task_ignore_result=True,
        # A running job counts as unacknowledged, so that a worker holds exactly as many messages
        # as it has slots. `worker_disable_prefetch` promises the same and makes the next message
        # wait for a one-second tick.
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        # A job outlives a lost connection to the broker: its claim is what counts.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_pool="threads",
        task_default_exchange="",
        broker_connection_retry_on_startup=True,
        # For as long as it takes.
        broker_connection_max_retries=None,
        # One try on a fresh connection, for a pooled one that Redis closed meanwhile.
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0},
        broker_transport_options={
            # Nothing is kept of a wake-up that was read, for a worker that dies to leave behind: who has a
            # free slot finds its job all the same.
            "ack_emulation": False,
            # Priority is the record's affair: else each queue would be four lists to wait at.
            "priority_steps": [0],
            "socket_connect_timeout": 5,
            "socket_timeout": 10,
            "socket_keepalive": True,
        },
    )
    return app


def verifying(broker_url: str) -> str:
    """The URL with the certificate of a `rediss://` server checked, unless it says otherwise itself.

    That is redis-py's default and not kombu's, which would give the password to whoever answers.
    """
    if not broker_url.startswith("rediss://") or "ssl_cert_reqs" in broker_url:
        return broker_url
    checks = urlencode({"ssl_cert_reqs": "required", "ssl_check_hostname": "true"})
    return f"{broker_url}{'&' if '?' in broker_url else '?'}{checks}"


def wake(app: Celery, *, task: str, job_id: str, to: Queue | None = None) -> bool:
    """Tell the workers of `task` that `job_id` waits; False if the broker could not be reached.

    That is no error: every worker looks for itself once a second. `to` is another queue than the
    task's.
    """
    args, kwargs = [job_id], {"task": task}
    try:
        # As `send_task` does it, without what that makes for whoever waits for a result.
        message = app.amqp.create_task_message(
            # Celery's own tools then show, find and revoke a job by its id and its task's name.
            job_id,
            RUN_JOB,
            args=args,
            kwargs=kwargs,
            shadow=task,
            ignore_result=True,
            # What it shows them; by itself it walks through whatever a caller may have given.
            argsrepr=repr(args),
            kwargsrepr=repr(kwargs),
        )
        with app.producer_or_acquire() as producer:
            app.amqp.send_task_message(
                producer,
                RUN_JOB,
                message,
                queue=to or queue(queue_of(task)),
                # Only a queue with a time to live must be declared, for kombu to know it.
                declare=[to] if to else [],
            )
    except OperationalError as fault:
        logger.warning("no wake-up for job %s, a worker will find it by itself: %s", job_id, fault)
        return False
    return True
