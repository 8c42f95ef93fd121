"""A worker written for fal.distributed gives the same here, once its import and its decorator are changed.

fal's side runs in an environment of its own, by fal's own runner, on the same torch. It is written for CUDA:
drivers/port.py puts it on gloo, and sees to it that none of its events are lost.
"""

import contextlib
import difflib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from helpers import clean_env

from fal_clients.programs import DRIVERS, fal_package, told
from rankcast.testing import system

ROOT = Path(__file__).parents[2]
PORT = ROOT / "examples" / "fal_port"
WITH_FAL, WITH_RANKCAST = PORT / "with_fal.py", PORT / "with_rankcast.py"

#: fal's package and torch are imported by the runner of each class, and by its ranks.
RUNNERS_TIMEOUT_S = 240
pytestmark = pytest.mark.timeout(RUNNERS_TIMEOUT_S + 60)

#: (class, input), by the name of what is tried.
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "all defaults": ("Plasma", {}),
    "as asked": ("Plasma", {"hue": 1.25, "steps": 5, "every": 1}),
    "png at the end": ("Plasma", {"steps": 3, "image_format": "png", "unknown": 1}),
    "nothing streamed": ("Plasma", {"steps": 0}),
    "coroutines": ("Fit", {"max_steps": 40}),
    "again, on warm ranks": ("Fit", {"max_steps": 20, "learning_rate": 0.1}),
}


class Both(NamedTuple):
    """By the name of a call: its frames, the last of which is the output."""

    fal: dict[str, list[Any]]
    ours: dict[str, list[Any]]


@pytest.fixture(scope="module")
def both() -> Both:
    """The same calls on either side, both at work at the same time, and over before they are compared."""
    with fals() as theirs, system(WITH_RANKCAST, env=clean_env()) as it:
        ours = {name: ours_told(it.url, *call) for name, call in CALLS.items()}
        return Both(dict(zip(CALLS, told(theirs, RUNNERS_TIMEOUT_S), strict=True)), ours)


@contextlib.contextmanager
def fals() -> Iterator[subprocess.Popen[str]]:
    process = started(fal_package(), "port.py", *CALLS.values())
    with process:
        try:
            yield process
        finally:
            process.kill()


def started(python: str, driver: str, *args: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, str(DRIVERS / driver), *map(json.dumps, args)],
        env=clean_env(PYTHONPATH=os.pathsep.join([str(ROOT), str(PORT)])),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ours_told(url: str, worker: str, payload: dict[str, Any]) -> list[Any]:
    with httpx.stream(
        "POST", f"{url}/run/examples/{worker.lower()}/stream", json=payload, timeout=60
    ) as answer:
        body = answer.read()
    return [
        json.loads(frame.removeprefix(b"data: "))
        for frame in body.split(b"\n\n")
        if frame.startswith(b"data: ")
    ]


def changed_lines() -> list[str]:
    lines = (path.read_text().splitlines() for path in (WITH_FAL, WITH_RANKCAST))
    diff = [line for line in difflib.unified_diff(*lines, n=0, lineterm="") if line not in ("+", "-")]
    return [line for line in diff if not line.startswith(("---", "+++", "@@"))]


def test_only_the_import_and_the_decorators_differ():
    assert changed_lines() == [
        "-from fal.distributed import DistributedWorker",
        "+from rankcast import DistributedWorker, task",
        '+@task("examples/plasma", world_size=2)',
        '+@task("examples/fit", world_size=2)',
    ]


@pytest.mark.parametrize("call", CALLS)
def test_what_is_streamed_and_returned_is_the_same(both: Both, call: str):
    """Every event, in the same order, and the output: to the last digit and the last byte of a picture."""
    assert both.ours[call] == both.fal[call]


def test_there_was_something_to_compare(both: Both):
    """Pictures of both ranks, losses that fall, and an input which the worker itself does not name."""
    *previews, output = both.ours["as asked"]
    assert [preview["step"] for preview in previews] == [0, 1, 2, 3, 4]
    sizes = {(frame["image"]["width"], frame["image"]["height"]) for frame in (*previews, output)}
    assert sizes == {(64, 32)}
    assert len({preview["image"]["url"] for preview in previews}) == 5
    assert both.ours["png at the end"][-1]["image"]["content_type"] == "image/png"
    assert both.ours["png at the end"][-1]["also"] == ["image_format", "unknown"]
    assert len(both.ours["nothing streamed"]) == 1
    *losses, fitted = both.ours["coroutines"]
    assert [loss["progress"] for loss in losses] == ["10/40", "20/40", "30/40", "40/40"]
    assert losses[0]["loss"] > 5 * losses[-1]["loss"]
    assert fitted["final_loss"] == losses[-1]["loss"]


def test_whatever_fals_worker_has_ours_has_too():
    """By the same names of parameters, in the same order, with the same defaults. Not its queue: what is
    streamed goes another way here. Its `__call__` gives {} where a class has none; ours says so."""
    (theirs,) = told(started(fal_package(), "worker_names.py", "fal.distributed"))
    (ours,) = told(started(sys.executable, "worker_names.py", "rankcast"))
    assert theirs.keys() - ours.keys() == {"queue"}
    differing = {name for name in theirs.keys() & ours.keys() if theirs[name] != ours[name]}
    assert differing == {"__call__"}
