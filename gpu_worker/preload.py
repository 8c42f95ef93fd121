"""Step 4. Runs inside the forkserver, once, before its first fork: imports what every rank needs.

multiprocessing imports this module there, and would hide an ImportError; so users' code is imported
under a net, and what goes wrong is found again, and told, by the child that describes the tasks.
CUDA stays uninitialised and no thread stays running here, because neither survives a fork. A
module that leaves either behind is told as unforkable, and the worker starts over without it.
"""

import gc
import json
import os
import sys
import threading
from collections.abc import Sequence
from typing import TypedDict

import torch

from rankcast.gpu_worker import cuda, describe, rank, seeds
from rankcast.gpu_worker.birth import SERVER_PID
from rankcast.gpu_worker.lineage import die_with_parent
from rankcast.gpu_worker.load import NotLoadable, load

#: Name of the variable with the worker's Order, as JSON.
ORDER = "RANKCAST_FORKSERVER"
#: What every fork finds imported beside the users' modules.
READY_MADE = (describe, rank)


class Order(TypedDict):
    """What the worker wants. `environ` has the variables to put back, None to remove."""

    worker_pid: int
    specs: list[str]
    sys_path: list[str]
    environ: dict[str, str | None]


def prepare(order: Order) -> None:
    """Turn this process into the forkserver that `order` describes."""
    die_with_parent(order["worker_pid"])
    for name, value in order["environ"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.environ[SERVER_PID] = str(os.getpid())
    sys.path[:] = order["sys_path"]
    # A pool of native threads that somebody's import filled would be dead in every fork.
    torch.set_num_threads(1)
    seeds.remember()
    describe.unforkable.update(import_all(order["specs"]))
    # Nothing that is here by now is garbage: uncollected, its pages stay shared with the forks.
    gc.collect()
    gc.freeze()


def import_all(specs: Sequence[str]) -> dict[str, str]:
    """Import users' code. Returns what cannot be forked: spec -> reason."""
    unforkable = {}
    was_touched = cuda.is_touched()
    for spec in specs:
        before = set(threading.enumerate())
        try:
            load(spec)
        except NotLoadable:
            # Told, with its traceback, by the child that describes.
            continue
        if started := [t.name for t in threading.enumerate() if t not in before]:
            unforkable[spec] = f"importing it leaves threads running ({', '.join(started)})"
        elif not was_touched and cuda.is_touched():
            unforkable[spec] = "importing it initialises CUDA"
            was_touched = True
    return unforkable


def _order() -> Order | None:
    order: Order = json.loads(os.environ.get(ORDER, "null"))
    # The children inherit the variable; only the forkserver is a child of the worker.
    return order if order and order["worker_pid"] == os.getppid() else None


if (_mine := _order()) is not None:
    prepare(_mine)
