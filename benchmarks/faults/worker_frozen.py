"""A worker and its ranks stopped for longer than a lease, then thawed: what they still get written.

Another host has taken the job meanwhile. Behind its claim nothing of the first attempt may stand in the
log, nor reach a viewer who watches; each event says of which attempt it is.
"""

import signal
import time

from benchmarks.bench import Bench
from benchmarks.deployment import Deployment, signal_all
from benchmarks.measure import Contender, Figure, Row, Sample
from benchmarks.viewer import Viewer

#: The ranks thaw so much before their worker, which would kill them: they are to try.
ALONE_S = 0.5


def thawed(bench: Bench) -> Sample:
    with Deployment(bench.logs) as deployment:
        (frozen,) = deployment.workers("gpu-1")
        viewer = deployment.submit("fault/asks")
        viewer.result(attempt=1)
        deployment.workers("gpu-2")
        worker, *others = sorted(frozen.family(), key=lambda process: process.pid != frozen.pid)
        signal_all([worker, *others], signal.SIGSTOP)
        viewer.starting(attempt=2)
        signal_all(others, signal.SIGCONT)
        time.sleep(ALONE_S)
        signal_all([worker], signal.SIGCONT)
        frozen.wait_printed(f"job {viewer.job.id}: attempt 1 stops")
        viewer.cancel()
        log = Viewer(viewer.job)
        log.end()
    is_same = [each.id for each in viewer.arrivals] == [each.id for each in log.arrivals]
    figures = {"stale": _stale(viewer) + _stale(log), "events": len(log.arrivals)}
    return Sample(figures, None if is_same else "the viewer was told other events than the log has")


def _stale(viewer: Viewer) -> int:
    """Events of the first attempt behind the claim of the second."""
    since = viewer.arrivals.index(viewer.starting(attempt=2))
    return sum(each.data.get("attempt") == 1 for each in viewer.arrivals[since:])


ROW = Row(
    key="stale-writes",
    title="stale writes accepted from a worker frozen past its lease, thawed",
    figures=[Figure("stale", "events", must=0), Figure("events", "events")],
    contenders=[Contender("worker and ranks SIGSTOP, another host takes over", thawed, is_ours=True)],
    rounds=3,
    warm_ups=0,
)
