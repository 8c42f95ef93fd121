"""`rankcast result`: what a job returned, on the screen or in a file."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rankcast.cli.options import (
    USAGE,
    Failure,
    coming_back,
    failure_of,
    job_argument,
    json_option,
    url_option,
)
from rankcast.cli.parts import is_file_object, part, to_be_kept
from rankcast.cli.show import pretty
from rankcast.client import Client, Job
from rankcast.errors import JobCancelled, JobFailed, RankcastError


@click.command()
@job_argument
@click.option(
    "-o",
    "--output",
    "file",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Write it to FILE, replacing what is there; - is stdout.",
)
@click.option("--at", "path", metavar="PATH", help="Only this part of the output: images[0], grid.")
@json_option
@url_option
def result(*, job_id: str, file: Path | None, path: str | None, is_json: bool, url: str | None) -> None:
    """Wait for JOB to end, and print its output as JSON.

    In FILE goes the image, tensor or other file that the output is or holds, as bytes; --at chooses
    if it holds several. An output without any is written as JSON. FILE is there whole, or as it was.

    Exits with 0 if the job succeeded, 1 if it failed, 3 if it was cancelled.
    """
    if is_json and (file is not None or path is not None):
        raise click.UsageError("--json prints all there is: give it without -o and --at")
    if file is not None and not file.parent.is_dir():
        raise click.UsageError(f"-o {file}: there is no folder {file.parent}")
    words = [*(["-o", str(file)] if file else []), *(["--at", path] if path else [])]
    with Client(url) as client, coming_back("result", job_id, *words):
        job = client.job(job_id)
        if is_json:
            _print_outcome(job)
            return
        output = job.result()
        try:
            if file is not None:
                _keep(job, to_be_kept(output) if path is None else part(output, path), file)
                return
            value = output if path is None else part(output, path)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        click.echo(pretty(value) if sys.stdout.isatty() else json.dumps(value, ensure_ascii=False))


def _print_outcome(job: Job) -> None:
    try:
        told: dict[str, Any] = {"state": "succeeded", "output": job.result()}
        code = 0
    except (JobFailed, JobCancelled) as error:
        told = {"state": "failed" if isinstance(error, JobFailed) else "cancelled", "error": error.error}
        code = failure_of(error).exit_code
    click.echo(json.dumps({"job_id": job.id, **told}, ensure_ascii=False))
    sys.exit(code)


def _keep(job: Job, value: Any, file: Path) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        if is_file_object(value):
            _write(file, lambda path: job.download(value, path))
        else:
            _write(file, lambda path: path.write_text(f"{text}\n", encoding="utf-8"))
    except (RankcastError, BrokenPipeError):
        raise
    except OSError as error:
        raise Failure(f"-o {file}: {error.strerror}", USAGE) from error


def _write(file: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file, and put it in the place of `file`. What is no plain file, a pipe or a
    device, gets a copy."""
    if str(file) == "-" or (file.exists() and not file.is_file()):
        with tempfile.TemporaryDirectory(prefix="rankcast-") as folder:
            written = Path(folder, "output")
            write(written)
            with written.open("rb") as source, click.open_file(str(file), "wb") as sink:
                shutil.copyfileobj(source, sink)
        return
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        write(unfinished)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
