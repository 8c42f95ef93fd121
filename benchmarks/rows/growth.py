"""Whether what one costs depends on how many there are: the dearest against the cheapest, ours alone."""

from collections.abc import Sequence

from benchmarks.bench import Bench
from benchmarks.load import Crowd, put
from benchmarks.measure import Contender, Figure, Row, Sample

VIEWERS = (100, 1000, 5000, 9500)
#: Jobs that have ended and are kept, and how many are submitted beside them.
KEPT = (10, 1000, 100_000)
JOBS = 200


def viewers(bench: Bench) -> Sample:
    """CPU of the web process a delivery, 10 events/s."""
    samples = [put(Crowd(viewers=count, rate=10), bench.crowd_web.target()) for count in VIEWERS]
    fault = next((sample.fault for sample in samples if sample.fault), None)
    return _sample(VIEWERS, [sample.figures["cpu"] for sample in samples], fault)


def kept_jobs(bench: Bench) -> Sample:
    """Time of a job that does nothing, over HTTP, one warm slot."""
    took, faults = [], []
    for kept in KEPT:
        bench.system.keep_jobs(kept)
        reply = bench.submitter(1).ask("jobs", count=JOBS)
        took.append(1000 / reply["rate"])
        faults.append(reply["fault"])
    return _sample(KEPT, took, next(filter(None, faults), None))


def _sample(counts: Sequence[int], costs: Sequence[float], fault: str | None) -> Sample:
    return Sample({"growth": max(costs) / min(costs)}, fault, dict(zip(map(str, counts), costs, strict=True)))


FIGURE = Figure("growth", "× the cheapest", must=1.5)
ROWS = (
    Row(
        key="growth-viewers",
        title=f"a delivery to {', '.join(f'{count:,}' for count in VIEWERS)} viewers",
        figures=[FIGURE],
        contenders=[Contender("rankcast, CPU of one web process", viewers, is_ours=True)],
        rounds=2,
    ),
    Row(
        key="growth-jobs",
        title=f"a job beside {', '.join(f'{count:,}' for count in KEPT)} that are kept",
        figures=[FIGURE],
        contenders=[Contender("rankcast, time of a job over HTTP", kept_jobs, is_ours=True)],
        # Those that are kept stay: it can be measured once.
        rounds=1,
        warm_ups=0,
    ),
)
