"""SIGKILL of one rank: until the next attempt starts, and after the last allowed loss, until the `end`.

One job loses its group three times, which is all that it may.
"""

import os
import signal
import time

from benchmarks.bench import Bench
from benchmarks.deployment import pause_for_any_moment
from benchmarks.measure import Contender, Figure, Row, Sample

MAX_LOSSES = 3


def rank_0(bench: Bench) -> Sample:
    return _kill_each_time(bench, "fault/computes", rank=0)


def last_rank(bench: Bench) -> Sample:
    return _kill_each_time(bench, "fault/computes", rank=-1)


def in_a_collective(bench: Bench) -> Sample:
    return _kill_each_time(bench, "fault/waits", rank=0)


def peer_in_a_collective(bench: Bench) -> Sample:
    return _kill_each_time(bench, "fault/waits", rank=-1)


def _kill_each_time(bench: Bench, task: str, rank: int) -> Sample:
    viewer = bench.one_worker.submit(task)
    waits_s = []
    for attempt in range(1, MAX_LOSSES + 1):
        pid = viewer.result(attempt).data["pids"][rank]
        pause_for_any_moment()
        killed_s = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        is_last = attempt == MAX_LOSSES
        seen = viewer.end() if is_last else viewer.starting(attempt + 1)
        waits_s.append(seen.at_s - killed_s)
    error = viewer.end().data.get("error", {})
    is_told = (error.get("kind"), error.get("signal")) == ("group_lost", "SIGKILL")
    return Sample(
        {"starting": max(waits_s[:-1]), "end": waits_s[-1]}, None if is_told else f"it says {error}"
    )


ROW = Row(
    key="rank-killed",
    title="rank killed → next attempt starting, or end",
    figures=[Figure("starting", "s", must=3, aim=1), Figure("end", "s", must=3, aim=1)],
    contenders=[
        Contender("rank 0, all compute", rank_0, is_ours=True),
        Contender("last rank, all compute", last_rank, is_ours=True),
        Contender("rank 0, in a collective", in_a_collective, is_ours=True),
        Contender("last rank, rank 0 in a collective", peer_in_a_collective, is_ours=True),
    ],
    warm_ups=0,
)
