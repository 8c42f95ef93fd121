"""What the shell offers for a TASK or a JOB: what the server knows, or nothing, and at once."""

from collections.abc import Callable, Iterable
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from rankcast.client import Client

#: Who pressed the key waits.
PATIENCE_S = 0.5
#: The newest; who wants an older one has its id from elsewhere.
JOBS = 20


def task_names(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    def named(client: Client) -> Iterable[CompletionItem]:
        for task in client.tasks():
            yield CompletionItem(task["name"], help=(task.get("description") or "").partition("\n")[0])

    return _asked(context, incomplete, named)


def job_ids(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    def newest(client: Client) -> Iterable[CompletionItem]:
        for job in client.jobs(limit=JOBS):
            yield CompletionItem(job["job_id"], help=f"{job['task']} {job['state']}")

    return _asked(context, incomplete, newest)


def _asked(
    context: click.Context, incomplete: str, ask: Callable[[Client], Iterable[CompletionItem]]
) -> list[CompletionItem]:
    # Whatever is wrong, it must not be told in the middle of a line that somebody types.
    with suppress(Exception), Client(context.params.get("url"), timeout_s=PATIENCE_S) as client:
        return [item for item in ask(client) if item.value.startswith(incomplete)]
    return []
