"""Redis killed and started again, one worker busy and one idle: until the next job starts.

The time begins when the server answers again, and has the submit in it, repeated while web says 503.
"""

import time

from benchmarks.bench import Bench
from benchmarks.deployment import Deployment, pause_for_any_moment
from benchmarks.measure import Contender, Figure, Row, Sample


def away_shortly(bench: Bench) -> Sample:
    return _restart(bench, down_s=1.0)


def away_for_long(bench: Bench) -> Sample:
    """Whoever waits longer from try to try is found out here."""
    return _restart(bench, down_s=15.0)


def _restart(bench: Bench, down_s: float) -> Sample:
    with Deployment(bench.logs) as deployment:
        deployment.workers("gpu-1", "gpu-2")
        busy = deployment.submit("fault/asks")
        busy.result(attempt=1)
        deployment.kill_redis()
        time.sleep(down_s)
        pause_for_any_moment()
        deployment.start_redis()
        back_s = time.monotonic()
        next_job = deployment.submit("fault/asks")
        starting = next_job.starting(attempt=1)
        next_job.result(attempt=1)
        record = busy.job.record()
        for viewer in (busy, next_job):
            viewer.cancel()
    is_untouched = (record["state"], record["attempt"]) == ("running", 1)
    fault = None if is_untouched else f"the busy job is {record['state']}, attempt {record['attempt']}"
    return Sample({"starting": starting.at_s - back_s}, fault)


ROW = Row(
    key="redis-restarted",
    title="Redis restarted, one worker busy, one idle → next job starts",
    figures=[Figure("starting", "s", must=2, aim=1)],
    contenders=[
        Contender("kill -9, 1 to 2 s away, back with its data", away_shortly, is_ours=True),
        Contender("kill -9, 15 to 16 s away, back with its data", away_for_long, is_ours=True),
    ],
    warm_ups=0,
)
