"""`rankcast watch`: a job's events as they arrive, as bars, lines or JSON."""

import json
import sys
from collections.abc import Callable
from typing import Any, Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from rankcast.cli.options import (
    CANCELLED,
    FAILED,
    SUCCEEDED,
    coming_back,
    job_argument,
    json_option,
    url_option,
)
from rankcast.cli.show import clean, fields, one_line, pretty, reading
from rankcast.client import Client, Event, Job
from rankcast.errors import RankcastError, describe
from rankcast.tasks.event import CHECKPOINT, END, GAP, RESET, STATE

EXIT_CODES = {"succeeded": SUCCEEDED, "failed": FAILED, "cancelled": CANCELLED}


class Screen(Protocol):
    """One way to show a job."""

    def show(self, event: Event) -> None: ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...

    def end(self, state: str, output: Any, error: dict[str, Any]) -> None: ...


@click.command()
@job_argument
@json_option
@url_option
def watch(*, job_id: str, is_json: bool, url: str | None) -> None:
    """Watch JOB from its start to its end; a broken connection resumes by itself.

    Exits with 0 if the job succeeded, 1 if it failed, 3 if it was cancelled. Ctrl-C only stops the
    watching (130).
    """
    with Client(url) as client:
        sys.exit(watch_job(client.job(job_id), is_json=is_json))


def watch_job(job: Job, *, is_json: bool = False) -> int:
    """Show the job until it ends; the exit code."""
    screen: Screen = Lines() if is_json else Bars() if sys.stdout.isatty() else Plain()
    with coming_back("watch", job.id):
        try:
            end = to_end(job, screen.show)
        finally:
            screen.close()
        state = str(end["state"])
        if "output" not in end and state == "succeeded":
            # Too large for an event: it has an address of its own.
            end["output"] = job.result()
        screen.end(state, end.get("output"), end.get("error") or {})
    return EXIT_CODES.get(state, FAILED)


def to_end(job: Job, take: Callable[[Event], None]) -> dict[str, Any]:
    """Hand over every event of the job; the data of its last, the end."""
    for event in job.stream():
        take(event)
        if event.kind == END:
            return dict(event.data)
    raise RankcastError(f"the stream of job {job.id} ended without its end event")


class Lines:
    """Every event as one line of JSON, exactly as it came."""

    def show(self, event: Event) -> None:
        click.echo(json.dumps({"id": event.id, "kind": event.kind, "data": event.data}, ensure_ascii=False))

    def close(self) -> None:
        pass

    def end(self, state: str, output: Any, error: dict[str, Any]) -> None:
        pass


class Plain:
    """A line an event, for a file or a pipe."""

    def show(self, event: Event) -> None:
        if event.kind != END:
            click.echo(told(event))

    def close(self) -> None:
        pass

    def end(self, state: str, output: Any, error: dict[str, Any]) -> None:
        head = [state] if state == "succeeded" else []
        click.echo("\n".join([*head, *ending(state, output, error)]))


class Bars:
    """A bar that follows the newest progress, and what else the job tells above it."""

    def __init__(self) -> None:
        self._console = Console()
        self._progress = Progress(
            TextColumn("{task.fields[state]}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[told]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._bar = self._progress.add_task("", total=None, state="", told="")

    def show(self, event: Event) -> None:
        self._take(event)
        # Not before there is something to show: where there is no such job, there is no bar.
        self._progress.start()

    def _take(self, event: Event) -> None:
        if event.kind in (STATE, END):
            self._progress.update(self._bar, state=clean(str(event.data.get("state"))))
            # Its end has more to tell than fits beside a bar: that comes below it.
            if event.kind == STATE:
                self._progress.update(self._bar, told=fields(_rest(event.data)))
            return
        now = reading(event.data) if event.is_result else None
        if now is None:
            self._console.print(Text(told(event)))
            return
        self._progress.update(
            self._bar,
            total=1.0,
            completed=now.fraction,
            told=f"{clean(now.label)} {fields(event.data)}".strip(),
        )

    def close(self) -> None:
        self._progress.stop()

    def end(self, state: str, output: Any, error: dict[str, Any]) -> None:
        for line in ending(state, output, error):
            self._console.print(Text(line))


def told(event: Event) -> str:
    """An event on one line."""
    if event.kind == STATE:
        return f"{clean(str(event.data.get('state')))} {fields(_rest(event.data))}".strip()
    if event.kind == CHECKPOINT:
        return f"checkpoint {_on_one_line(event.data)}"
    if event.kind == GAP:
        after, to = one_line(event.data.get("after")), one_line(event.data.get("to"))
        return f"(the events after {after}, up to {to}, are no longer kept)"
    if event.kind == RESET:
        return f"(begins anew: {one_line(event.data.get('message', 'the log was lost'))})"
    return _on_one_line(event.data)


def _on_one_line(data: Any) -> str:
    now = reading(data)
    if now is None:
        return fields(data)
    return " ".join(filter(None, [f"{now.fraction:4.0%}", clean(now.label), fields(data)]))


def ending(state: str, output: Any, error: dict[str, Any]) -> list[str]:
    """How the job ended: its output, or why it has none."""
    if state == "succeeded":
        return [pretty(output)]
    lines = [f"{clean(state)}: {clean(describe(error))}" if error else clean(state)]
    if error.get("traceback"):
        lines.append(clean(str(error["traceback"]).rstrip(), keeps_lines=True))
    return lines


def _rest(data: dict[str, Any]) -> dict[str, Any]:
    """A state event without what is said elsewhere."""
    return {name: value for name, value in data.items() if name != "state"}
