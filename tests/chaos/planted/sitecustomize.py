"""Bugs on purpose.  On the PYTHONPATH of web tiers and workers it plants the one that CHAOS_BUG names.

Python imports this file at the start of each process, the forkserver and so the ranks included. A
module is spoilt in the moment it has been imported.
"""

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

BUG = "CHAOS_BUG"
Plant = Callable[[Any], None]


def _flush_forgotten(publisher: Any) -> None:
    """The end does not wait for what was told last."""
    publisher.Publisher.flush = lambda self: self._acked


def _cancel_ignored(connect: Any) -> None:
    """The finish script does not look at the cancel flag."""
    whole = connect._source

    def spoilt(name: str, has_shebang: bool) -> Any:
        source = whole(name, has_shebang)
        text = source.text.replace("not decided and job.cancel or", "")
        return source._replace(text=text, sha=connect.hashlib.sha1(text.encode()).hexdigest())

    connect._source = spoilt


def _cursor_ignored(hub: Any) -> None:
    """Whoever comes back is told everything again."""
    start = sys.modules["rankcast.tasks.event"].START
    hub.Hub.locate = lambda self, job_id, cursor: hub.Start(start)


def _no_parent_counts(lineage: Any) -> None:
    """The kernel ends nothing with a worker that was killed."""
    lineage.die_with_parent = lambda expected_pid: None


def _no_pipe_counts(rank: Any) -> None:
    """Nor does a rank end itself whose pipe is closed."""
    rank.os = SimpleNamespace(**{**vars(os), "killpg": lambda pgid, number: None})


def _nobody_sweeps(sweep: Any) -> None:
    """A lease that ran out is noticed by nobody."""
    sweep.Sweep.run_once = lambda self: sweep.Swept(0, 0, 0)


def _nobody_takes_over(takeover: Any) -> None:
    """Nor is a worker that died on the same host."""
    takeover.Takeover.run_once = lambda self: []


BUGS: Mapping[str, Mapping[str, Plant]] = {
    "flush forgotten": {"rankcast.gpu_worker.publisher": _flush_forgotten},
    "cancel ignored": {"rankcast.tasks.connect": _cancel_ignored},
    "cursor ignored": {"rankcast.web.hub": _cursor_ignored},
    "orphans live": {
        "rankcast.gpu_worker.lineage": _no_parent_counts,
        "rankcast.gpu_worker.rank": _no_pipe_counts,
    },
    "nobody takes over": {
        "rankcast.tasks.sweep": _nobody_sweeps,
        "rankcast.tasks.takeover": _nobody_takes_over,
    },
}


class _Planter(MetaPathFinder):
    """Finds one module as everybody does, and has it spoilt when it is there."""

    def __init__(self, module: str, plant: Plant) -> None:
        self._module = module
        self._plant = plant

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_plant(module: ModuleType) -> None:
            execute(module)
            self._plant(module)

        spec.loader.exec_module = execute_and_plant  # type: ignore[method-assign]
        return spec


for module, plant in BUGS.get(os.environ.get(BUG, ""), {}).items():
    sys.meta_path.insert(0, _Planter(module, plant))
