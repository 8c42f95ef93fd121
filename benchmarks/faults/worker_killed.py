"""SIGKILL of a busy worker while another is idle: until that one has claimed the job."""

import time

from benchmarks.bench import Bench
from benchmarks.deployment import Deployment, pause_for_any_moment
from benchmarks.measure import Contender, Figure, Row, Sample


def host_alive(bench: Bench) -> Sample:
    """Another worker of the same host sees that the process is gone."""
    return _kill(bench, other_host="gpu-1")


def host_gone(bench: Bench) -> Sample:
    """To a worker of another host, a dead process and a dead host look the same: the lease runs out."""
    return _kill(bench, other_host="gpu-2")


def _kill(bench: Bench, other_host: str) -> Sample:
    with Deployment(bench.logs) as deployment:
        (busy,) = deployment.workers("gpu-1")
        viewer = deployment.submit("fault/asks")
        viewer.result(attempt=1)
        deployment.workers(other_host)
        pause_for_any_moment()
        killed_s = time.monotonic()
        busy.kill()
        claimed = viewer.starting(attempt=2)
        viewer.result(attempt=2)
        viewer.cancel()
        error = viewer.lost().data["error"]
    fault = None if error["kind"] == "worker_lost" else f"it says {error}"
    return Sample({"claimed": claimed.at_s - killed_s}, fault)


ROWS = (
    Row(
        key="worker-killed",
        title="worker SIGKILL → next attempt claimed, host alive",
        figures=[Figure("claimed", "s", must=5, aim=2)],
        contenders=[Contender("by another worker of that host", host_alive, is_ours=True)],
        warm_ups=0,
    ),
    Row(
        key="host-gone",
        title="worker SIGKILL → next attempt claimed, host gone",
        figures=[Figure("claimed", "s", must=20, aim=17)],
        contenders=[Contender("by a worker of another host", host_gone, is_ours=True)],
        warm_ups=0,
    ),
)
