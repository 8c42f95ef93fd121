"""Events lost by kill -9 of Redis while their writer lives, on a quick disk and on a slow one.

A job streams numbers; Redis is killed in the middle and is back a second later. What counts is the log
as a fresh viewer reads it in the end, against what the task handed over. `forgotten` is what the killed
server had told viewers and had not written to its files: on a slow disk it puts writes off for up to two
seconds. Whoever wrote them tells it again.
"""

import re
import shutil
import subprocess
import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.deployment import Deployment
from benchmarks.measure import Contender, Figure, NotInstalled, Row, Sample
from benchmarks.viewer import Viewer

STREAM_S = 8.0
EVERY_S = 1 / 500
#: Into the stream: a slow disk must be behind by then.
KILL_AFTER_S = 4.0
DOWN_S = 1.0
SLOW_DISK = Path(__file__).with_name("slow_disk.c")


def quick_disk(bench: Bench) -> Sample:
    return _kill(bench, preload=None)


def slow_disk(bench: Bench) -> Sample:
    return _kill(bench, preload=_slow_disk(bench.logs))


def _kill(bench: Bench, preload: Path | None) -> Sample:
    with Deployment(bench.logs, preload=preload) as deployment:
        deployment.workers("gpu-1")
        viewer = deployment.submit("fault/counts", for_s=STREAM_S, every_s=EVERY_S)
        viewer.result(attempt=1)
        time.sleep(KILL_AFTER_S)
        deployment.kill_redis()
        seen, kept = _numbers(viewer)[-1], _last_on_disk(deployment)
        time.sleep(DOWN_S)
        deployment.start_redis()
        end = viewer.end()
        log = Viewer(viewer.job)
        log.end()
    count = end.data["output"]["count"] if end.data["state"] == "succeeded" else 0
    figures = {
        "lost": count - len(set(_numbers(log))),
        "handed over": count,
        "forgotten": max(0, seen - kept),
    }
    return Sample(figures, _fault(log, viewer, count))


def _fault(log: Viewer, viewer: Viewer, count: int) -> str | None:
    """What is wrong beside losses: with the end, with the log, with what the viewer of the kill saw."""
    end = log.end().data
    if (end["state"], end["attempt"]) != ("succeeded", 1):
        return f"it ended as {end}"
    in_log = _numbers(log)
    if in_log != sorted(set(in_log)) or not set(in_log) <= set(range(count)):
        return "the log is out of order, or has doubles or strangers"
    return None if _numbers(viewer) == in_log else "its viewer was not told what the log tells"


def _numbers(viewer: Viewer) -> list[int]:
    """What the task streamed, as far as this viewer has not been told to forget it."""
    resets = [place for place, each in enumerate(viewer.arrivals) if each.kind == "reset"]
    since = viewer.arrivals[resets[-1] if resets else 0 :]
    return [each.data["n"] for each in since if each.kind == ""]


def _last_on_disk(deployment: Deployment) -> int:
    """The highest number in the files of a server that is dead; -1 for none."""
    found = re.findall(rb'"n":(\d+)', b"".join(path.read_bytes() for path in deployment.redis_files()))
    return max(map(int, found), default=-1)


def _slow_disk(folder: Path) -> Path:
    """The library that makes fdatasync slow, compiled."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotInstalled("no C compiler: cc is not on the PATH")
    library = folder / "slow_disk.so"
    if not library.exists():
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SLOW_DISK), "-ldl"]
        subprocess.run(command, check=True)
    return library


ROW = Row(
    key="redis-killed",
    title="events lost by kill -9 of Redis, writer alive",
    figures=[
        Figure("lost", "events", must=0),
        Figure("handed over", "events"),
        Figure("forgotten", "events"),
    ],
    contenders=[
        Contender("quick disk", quick_disk, is_ours=True),
        Contender("slow disk: fdatasync takes 1.8 s", slow_disk, is_ours=True),
    ],
    rounds=3,
    warm_ups=0,
)
