"""The base class of users' tasks: what a rank gives it, and Celery's way to submit a job of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rankcast.client import Job
from rankcast.errors import NotATask
from rankcast.gpu_worker import distributed_worker
from rankcast.tasks.declare import TaskDeclaration, declaration_of
from rankcast.tasks.job import JobOptions, option_faults
from rankcast.without_http import reach_redis

#: Celery's words for our options, as they were written.
_IN_CELERY = {"start_timeout_s": "expires", "timeout_s": "time_limit"}


class DistributedWorker(distributed_worker.DistributedWorker):
    """Subclass it, decorate it with `@task`, and serve it with `rankcast worker --tasks FILE`.

    `setup` and `__call__` run on every rank; `add_streaming_result` on rank 0 tells all viewers.
    """

    @classmethod
    def delay(cls, **input: Any) -> Job:
        """Queue a job of this task, beside the Redis at RANKCAST_REDIS_URL and without HTTP.

        NotATask, UnknownTask (no worker ever served it), InvalidInput, QueueFull, StoreUnavailable.
        """
        return cls.apply_async(kwargs=input)

    @classmethod
    def apply_async(
        cls,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        priority: int | None = None,
        expires: float | None = None,
        time_limit: float | None = None,
        **unsupported: Any,
    ) -> Job:
        """`delay` with options, in Celery's words.

        `priority` is 0, first, to 9, last. `expires`, in seconds: the job fails if it has not
        started by then. `time_limit`, in seconds: one attempt may run so long. `queue` may only name
        the task's own. TypeError for what makes no sense here, with what to do instead.
        """
        declaration = declaration_of(cls)
        if declaration is None:
            raise NotATask(cls)
        _refuse(declaration, args, queue, unsupported)
        options = _options(priority=priority, expires=expires, time_limit=time_limit)
        return reach_redis().submit(declaration.name, dict(kwargs or {}), options)


def _refuse(
    declaration: TaskDeclaration, args: Sequence[Any], queue: str | None, unsupported: Mapping[str, Any]
) -> None:
    if args:
        raise TypeError("a task's input has names: give it as keywords, or as kwargs={...}")
    if queue not in (None, f"rankcast.{declaration.name}"):
        raise TypeError(
            f"{declaration.name} has one queue, rankcast.{declaration.name}; to keep jobs apart, register "
            "the class under a second name and serve that with other workers"
        )
    for name in unsupported.keys() & {"countdown", "eta"}:
        raise TypeError(
            f"{name}: a job is queued when it is submitted; submit it later, by celery beat or cron"
        )
    if unsupported:
        raise TypeError(
            f"not supported: {', '.join(sorted(unsupported))}; queue, priority, expires and time_limit are"
        )


def _options(*, priority: int | None, expires: float | None, time_limit: float | None) -> JobOptions:
    given = {"priority": priority, "start_timeout_s": expires, "timeout_s": time_limit}
    told = {name: value for name, value in given.items() if value is not None}
    for name, fault in option_faults(told):
        raise ValueError(f"{_IN_CELERY.get(name, name)} {fault}, not {told[name]!r}")
    return JobOptions(**told)  # type: ignore[arg-type]
