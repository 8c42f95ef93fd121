"""Whether what one costs grows with how many there are: a larger count against any smaller one.

What gets cheaper with more is flat. Each count's own cost is told below the figure.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.actor import Actor, Reply
from benchmarks.bench import Bench
from benchmarks.load import Crowd, put
from benchmarks.measure import Contender, Figure, Row, Sample, growth
from benchmarks.server import Server
from benchmarks.system import System

VIEWERS = (100, 1000, 5000, 9500)
#: Jobs that have ended and are kept, and how many are submitted beside them.
KEPT = (10, 1000, 100_000)
JOBS = 200
#: How often, of which the median counts: a turn takes a second.
TURNS = 5
#: Jobs that wait in the task's queue, and how many are taken from its head meanwhile. 100,000 is its limit.
QUEUED = (10, 1000, 20_000)
TAKEN = 300


def viewers(bench: Bench) -> Sample:
    """CPU of the web process a delivery, 10 events/s."""
    return _viewers(bench.crowd_web)


def nchans_viewers(bench: Bench) -> Sample:
    return _viewers(bench.nchan)


def _viewers(server: Server) -> Sample:
    samples = [put(Crowd(viewers=count, rate=10), server.target()) for count in VIEWERS]
    fault = next((sample.fault for sample in samples if sample.fault), None)
    return _sample(VIEWERS, "viewers", [sample.figures["cpu"] for sample in samples], fault)


def kept_jobs(bench: Bench) -> Sample:
    """Time of a job that does nothing, over HTTP, one warm slot."""
    took, faults = [], []
    for kept in KEPT:
        bench.system.keep_jobs(kept)
        replies = [bench.submitter(1).ask("jobs", count=JOBS) for _ in range(TURNS)]
        took.append(1000 / median(reply["rate"] for reply in replies))
        faults += [reply["fault"] for reply in replies]
    return _sample(KEPT, "kept", took, next(filter(None, faults), None))


def queued_jobs(bench: Bench) -> Sample:
    """Time of a job of the highest priority, to submit it over HTTP and to run it, one warm slot.

    All that wait have the lowest, and their wake-ups lie before its own.
    """
    logs = bench.logs / "queued"
    logs.mkdir(exist_ok=True)
    with System(logs) as system, _submitter(system, logs) as submitter:
        submitter.ask("hold")
        # The first turn warms up.
        _, *replies = [_take(system, submitter, waiting) for waiting in (QUEUED[0], *QUEUED)]
        submitter.ask("release")
    took = [reply["submit_ms"] + reply["run_ms"] for reply in replies]
    sample = _sample(QUEUED, "queued", took, next(filter(None, (reply["fault"] for reply in replies)), None))
    return replace(sample, raw={"replies": replies})


def _submitter(system: System, logs: Path) -> Actor:
    return Actor("benchmarks.submitter", "127.0.0.1", str(system.port), log=logs / "submitter.log")


def _take(system: System, submitter: Actor, waiting: int) -> Reply:
    system.queue_jobs(waiting)
    reply = submitter.ask("jobs_before_others", count=TAKEN)
    left = system.queued_count()
    return reply if left == waiting else {**reply, "fault": f"{left:,} of {waiting:,} wait still"}


def _sample(counts: Sequence[int], of_what: str, costs: Sequence[float], fault: str | None) -> Sample:
    names = [f"{count:,} {of_what}" for count in counts]
    return Sample({"growth": growth(costs)}, fault, parts=dict(zip(names, costs, strict=True)))


FIGURE = Figure("growth", "× a smaller count's", must=1.5)
ROWS = (
    Row(
        key="growth-viewers",
        title=f"a delivery to {', '.join(f'{count:,}' for count in VIEWERS)} viewers",
        figures=[FIGURE],
        contenders=[
            Contender("rankcast, CPU of one web process", viewers, is_ours=True),
            Contender("nginx + nchan, one worker", nchans_viewers),
        ],
        part_unit="µs a delivery",
        rounds=2,
    ),
    Row(
        key="growth-queued",
        title=f"a job with {', '.join(f'{count:,}' for count in QUEUED)} queued behind it",
        figures=[FIGURE],
        contenders=[Contender("rankcast, submit and run of a job over HTTP", queued_jobs, is_ours=True)],
        part_unit="ms a job",
        rounds=2,
        warm_ups=0,
    ),
    # Last: what this keeps its workers and web tier look through, now and then, as long as they live.
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
