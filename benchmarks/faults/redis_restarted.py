"""Redis killed and started again, one worker busy and one idle: until the next job starts.

The time begins when the server answers again, and has the submit in it, repeated while web says 503.
"""

import time

from benchmarks.bench import Bench
from benchmarks.deployment import Deployment
from benchmarks.measure import Contender, Figure, Row, Sample

DOWN_S = 1.0


def after_restart(bench: Bench) -> Sample:
    with Deployment(bench.logs) as deployment:
        deployment.workers("gpu-1", "gpu-2")
        busy = deployment.submit("fault/asks")
        busy.result(attempt=1)
        deployment.kill_redis()
        time.sleep(DOWN_S)
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
    contenders=[Contender("kill -9, 1 s away, back with its data", after_restart, is_ours=True)],
    warm_ups=0,
)
