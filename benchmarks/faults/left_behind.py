"""SIGKILL of a busy worker: which of the processes that descend from it still live after 10 s."""

import time

from benchmarks.bench import Bench
from benchmarks.deployment import Deployment
from benchmarks.measure import Contender, Figure, Row, Sample

AFTER_S = 10.0


def ranks(bench: Bench) -> Sample:
    return _kill(bench, "fault/computes")


def ranks_with_children(bench: Bench) -> Sample:
    return _kill(bench, "fault/loads")


def _kill(bench: Bench, task: str) -> Sample:
    with Deployment(bench.logs) as deployment:
        (worker,) = deployment.workers("gpu-1")
        viewer = deployment.submit(task)
        viewer.result(attempt=1)
        before = len(worker.family())
        worker.kill()
        time.sleep(AFTER_S)
        left = worker.family()
        told = [" ".join(process.cmdline()) for process in left]
        viewer.cancel()
    return Sample({"left": len(left), "before": before}, raw={"left": told})


ROW = Row(
    key="left-behind",
    title="processes left after kill -9 of a worker, after 10 s",
    figures=[Figure("left", "processes", must=0), Figure("before", "processes")],
    contenders=[
        Contender("2 ranks", ranks, is_ours=True),
        Contender("2 ranks with data loaders and programs", ranks_with_children, is_ours=True),
    ],
    rounds=3,
    warm_ups=0,
)
