"""`POST /jobs/<id>/cancel` of a running job: from before the request to the `end` at a viewer."""

import time

from benchmarks.bench import Bench
from benchmarks.deployment import pause_for_any_moment
from benchmarks.measure import Contender, Figure, Row, Sample


def at_a_step_boundary(bench: Bench) -> Sample:
    return _cancel(bench, "fault/asks")


def by_kill(bench: Bench) -> Sample:
    return _cancel(bench, "fault/deaf")


def _cancel(bench: Bench, task: str) -> Sample:
    viewer = bench.one_worker.submit(task)
    viewer.result(attempt=1)
    pause_for_any_moment()
    asked_s = time.monotonic()
    end = viewer.cancel()
    state = end.data["state"]
    return Sample({"end": end.at_s - asked_s}, None if state == "cancelled" else f"it ended as {state}")


ROWS = (
    Row(
        key="cancel",
        title="cancel at a step boundary → end",
        figures=[Figure("end", "s", must=2, aim=0.5)],
        contenders=[Contender("the task asks each 20 ms", at_a_step_boundary, is_ours=True)],
        warm_ups=0,
    ),
    Row(
        key="cancel-by-kill",
        title="cancel by kill → end",
        figures=[Figure("end", "s", must=10, aim=6)],
        contenders=[Contender("the task never asks, grace of 5 s", by_kill, is_ours=True)],
        warm_ups=0,
    ),
)
