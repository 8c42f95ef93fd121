"""SIGKILL of the only worker: until an open stream tells that the job waits again.  Web sweeps."""

import time

from benchmarks.bench import Bench
from benchmarks.deployment import Deployment, pause_for_any_moment
from benchmarks.measure import Contender, Figure, Row, Sample


def none_left(bench: Bench) -> Sample:
    with Deployment(bench.logs) as deployment:
        (only,) = deployment.workers("gpu-1")
        viewer = deployment.submit("fault/asks")
        viewer.result(attempt=1)
        pause_for_any_moment()
        killed_s = time.monotonic()
        only.kill()
        told = viewer.lost()
        state = viewer.job.record()["state"]
        viewer.cancel()
    error = told.data["error"]
    is_right = (error["kind"], told.data["state"], state) == ("worker_lost", "queued", "queued")
    fault = None if is_right else f"the job is {state}, the stream says {told.data}"
    return Sample({"told": told.at_s - killed_s}, fault)


ROW = Row(
    key="last-worker-killed",
    title="last worker SIGKILL, none left → viewers told, job queued",
    figures=[Figure("told", "s", must=20)],
    contenders=[Contender("an open HTTP stream", none_left, is_ours=True)],
    warm_ups=0,
)
