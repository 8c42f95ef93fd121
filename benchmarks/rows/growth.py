"""Whether what one costs grows with how many there are: a larger count against any smaller one, ours alone.

What gets cheaper with more is flat. Each count's own cost is told below the figure.
"""

from collections.abc import Sequence

from benchmarks.bench import Bench
from benchmarks.load import Crowd, put
from benchmarks.measure import Contender, Figure, Row, Sample, growth

VIEWERS = (100, 1000, 5000, 9500)
#: Jobs that have ended and are kept, and how many are submitted beside them.
KEPT = (10, 1000, 100_000)
JOBS = 200


def viewers(bench: Bench) -> Sample:
    """CPU of the web process a delivery, 10 events/s."""
    samples = [put(Crowd(viewers=count, rate=10), bench.crowd_web.target()) for count in VIEWERS]
    fault = next((sample.fault for sample in samples if sample.fault), None)
    return _sample(VIEWERS, "viewers", [sample.figures["cpu"] for sample in samples], fault)


def kept_jobs(bench: Bench) -> Sample:
    """Time of a job that does nothing, over HTTP, one warm slot."""
    took, faults = [], []
    for kept in KEPT:
        bench.system.keep_jobs(kept)
        reply = bench.submitter(1).ask("jobs", count=JOBS)
        took.append(1000 / reply["rate"])
        faults.append(reply["fault"])
    return _sample(KEPT, "kept", took, next(filter(None, faults), None))


def _sample(counts: Sequence[int], of_what: str, costs: Sequence[float], fault: str | None) -> Sample:
    names = [f"{count:,} {of_what}" for count in counts]
    return Sample({"growth": growth(costs)}, fault, parts=dict(zip(names, costs, strict=True)))


FIGURE = Figure("growth", "× a smaller count's", must=1.5)
ROWS = (
    Row(
        key="growth-viewers",
        title=f"a delivery to {', '.join(f'{count:,}' for count in VIEWERS)} viewers",
        figures=[FIGURE],
        contenders=[Contender("rankcast, CPU of one web process", viewers, is_ours=True)],
        part_unit="µs a delivery",
        rounds=2,
    ),
    Row(
        key="growth-jobs",
        title=f"a job beside {', '.join(f'{count:,}' for count in KEPT)} that are kept",
        figures=[FIGURE],
        contenders=[Contender("rankcast, time of a job over HTTP", kept_jobs, is_ours=True)],
        part_unit="ms a job",
        # Those that are kept stay: it can be measured once.
        rounds=1,
        warm_ups=0,
    ),
)
