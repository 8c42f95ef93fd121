"""SIGSTOP of one rank: until a viewer is told that the attempt was lost, and why."""

import os
import signal
import time

from benchmarks.bench import Bench
from benchmarks.deployment import pause_for_any_moment
from benchmarks.measure import Contender, Figure, Row, Sample


def rank_0(bench: Bench) -> Sample:
    return _freeze(bench, "fault/computes", rank=0)


def peer_in_a_collective(bench: Bench) -> Sample:
    return _freeze(bench, "fault/waits", rank=-1)


def _freeze(bench: Bench, task: str, rank: int) -> Sample:
    viewer = bench.one_worker.submit(task)
    pid = viewer.result(attempt=1).data["pids"][rank]
    pause_for_any_moment()
    stopped_s = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    lost = viewer.lost()
    # Told, but alone in the world: what follows it must be a group that works.
    viewer.result(attempt=2)
    viewer.cancel()
    error = lost.data["error"]
    return Sample(
        {"seen": lost.at_s - stopped_s}, None if error["kind"] == "rank_frozen" else f"it says {error}"
    )


ROW = Row(
    key="rank-frozen",
    title="rank frozen → seen",
    figures=[Figure("seen", "s", must=15, aim=5)],
    contenders=[
        Contender("rank 0, all compute", rank_0, is_ours=True),
        Contender("last rank, rank 0 in a collective", peer_in_a_collective, is_ours=True),
    ],
    warm_ups=0,
)
