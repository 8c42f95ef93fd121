"""Step 4. A stock Celery worker that runs jobs: `celery -A rankcast.gpu_worker.worker worker`.

Here is only what Celery calls: its signals, its one task, its pool and its `revoke`. What a worker
holds and does is in runtime.py. The environment says which tasks it serves (settings.py);
`rankcast worker` is the same with options.
"""

import atexit
import logging
import re
import signal
import sys
import traceback
import warnings
from typing import Any

import click
from celery import signals
from celery.concurrency.thread import TaskPool
from celery.worker.control import control_command
from celery.worker.control import revoke as stock_revoke

from rankcast.gpu_worker.runtime import Runtime
from rankcast.gpu_worker.settings import WorkerSettings
from rankcast.tasks import broker
from rankcast.tasks.celery_app import RUN_JOB, make_app, queue, queue_of
from rankcast.tasks.errors import RankcastError
from rankcast.tasks.redis_check import check_redis
from rankcast.tasks.settings import Settings

logger = logging.getLogger(__name__)

broker.repair()
app = make_app(Settings.from_env())
#: What this process runs; a worker process has exactly one, from `celeryd_init` on.
_runtimes: list[Runtime] = []


class SlotPool(TaskPool):
    """Celery's threads pool, one thread a slot. A cold shutdown ends what runs, which threads cannot."""

    def terminate_job(self, pid: int, signal: object = None) -> None:
        """Celery's way to stop a running task by force; `pid` is ours, so it means all of them."""
        for runtime in _runtimes:
            runtime.abandon()


app.conf.worker_pool = f"{__name__}:{SlotPool.__qualname__}"


@app.task(name=RUN_JOB, bind=True)
def run_job(self: Any, job_id: str, task: str) -> None:
    """A wake-up: run the job it names if that is queued, else the next one of its task, else nothing.

    Never raises for a job that fails: to Celery that is a job done.
    """
    _runtimes[0].run(task=task, job_id=job_id, queue_name=self.request.delivery_info["routing_key"])


@signals.celeryd_init.connect
def _boot(conf: Any, options: dict[str, Any], **_: Any) -> None:
    """In the final process and its main thread: past this line the worker knows what it can run.

    Whatever cannot work ends the process with one line, before anything is taken from a queue.
    """
    try:
        _refuse(options)
        check_redis(Settings.from_env().redis_url, logger)
        runtime = Runtime(WorkerSettings.from_env(), app)
    except (ValueError, RankcastError) as error:
        # A string as exit code: printed to stderr, and the code is 1.
        sys.exit(f"rankcast worker: {error}")
    except Exception:
        # Celery logs what a receiver raises and goes on: a worker that looks ready and serves nothing.
        traceback.print_exc()
        sys.exit("rankcast worker: it could not start; the error above is not one that it expects")
    _runtimes[:] = [runtime]
    conf.worker_concurrency = len(runtime.slots)
    conf.task_queues = [queue(queue_of(task)) for task in runtime.tasks] + [runtime.own_queue]


def _refuse(options: dict[str, Any]) -> None:
    """ValueError for options of `celery worker` that contradict ours."""
    for name, instead in _NOT_OURS.items():
        if options.get(name):
            raise ValueError(f"--{name.replace('_', '-')} does not go with rankcast: {instead}")
    pool = _asked_pool()
    if pool not in (None, "threads"):
        raise ValueError(f"--pool {pool} does not go with rankcast: a worker runs one thread a slot")


_NOT_OURS = {
    "autoscale": "the slots decide (RANKCAST_SLOTS, RANKCAST_SLOT_GPUS)",
    "concurrency": "the slots decide (RANKCAST_SLOTS, RANKCAST_SLOT_GPUS)",
    "exclude_queues": "a worker reads the queues of its tasks (RANKCAST_TASKS)",
    "queues": "a worker reads the queues of its tasks (RANKCAST_TASKS)",
}


def _asked_pool() -> str | None:
    """The pool asked for on the command line; Celery itself forgets that it was `prefork`."""
    context = click.get_current_context(silent=True)
    if context is None or context.get_parameter_source("pool") is not click.core.ParameterSource.COMMANDLINE:
        return None
    asked = re.search(r"(?:\s-P\s*|\s--pool[\s=])(\S+)", " ".join(["", *sys.argv[1:]]))
    return asked[1] if asked else None


@signals.worker_ready.connect
def _open(**_: Any) -> None:
    # Celery would start itself anew under the same pid: the ranks' parent would not have died, so
    # they would live on beside their successors, on the same GPUs.
    signal.signal(signal.SIGHUP, _ignore_hangup)
    # Eight lines at every reconnect, about a setting that celery_app.py does set; here because
    # Celery's set-up of its log lets all of its warnings through.
    warnings.filterwarnings("ignore", message=r"\s*In Celery 5\.1 we introduced")
    _runtimes[0].open()


def _ignore_hangup(*_: object) -> None:
    logger.warning("SIGHUP is ignored: to restart this worker, stop it (SIGTERM) and start another")


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    """Called in Celery's signal handlers, which by themselves ignore a second SIGTERM."""
    for runtime in _runtimes:
        runtime.ask_to_stop()


@signals.worker_shutdown.connect
def _close(**_: Any) -> None:
    while _runtimes:
        _runtimes.pop().close()


@atexit.register
def _leave() -> None:
    """For the ends that send no `worker_shutdown`: a cold shutdown, an error of Celery's own."""
    while _runtimes:
        _runtimes.pop().leave()


@control_command(name="revoke", variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def _revoke(state: Any, task_id: Any, terminate: bool = False, **options: Any) -> Any:
    """Revoke by id: cancels the job of that id, and what Celery does besides."""
    for job_id in [task_id] if isinstance(task_id, str) else task_id or []:
        for runtime in _runtimes:
            runtime.cancel(job_id)
    # Never `terminate`: the pool could only end all of its jobs, and the cancel ends this one.
    return stock_revoke(state, task_id, **options)
