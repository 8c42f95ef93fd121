"""What watching costs a training step: CPU time of the thread that computes, against the same step without.

Wall time says little about this where two cores are shared. A small network on one thread of the CPU; the
preview is an image of 512 × 512 as a PNG, each tenth step. Beside ours it is encoded where it is cast. What
small events cost is too little to be seen by blocks of steps: see excess.py.
"""

from collections.abc import Callable

from benchmarks.bench import Bench
from benchmarks.measure import Contender, Figure, Row, Sample

STEPS_A_PREVIEW = 10
#: Of each of the two jobs of a round with small events.
SECONDS = 75.0


def _run(mode: str) -> Callable[[Bench], Sample]:
    def measure(bench: Bench) -> Sample:
        told = bench.submitter(1).ask("output", task="bench/trains", input={"mode": mode})["output"]
        return Sample({"cost": STEPS_A_PREVIEW * (told["with_ms"] - told["without_ms"])}, None, told)

    return measure


def _small_events(bench: Bench) -> Sample:
    """With them, and with nothing in their place: how far the figure may be wrong."""
    watched, nothing = (_steps(bench, shows) for shows in (True, False))
    parts = {
        "its events": watched["events_per_s"] * watched["event_us"] / 1e4,
        "its batches": watched["batches_per_s"] * watched["batch_us"] / 1e4,
        "nothing, in the place of both": nothing["percent"],
    }
    return Sample({"slower": watched["percent"]}, None, {"watched": watched, "nothing": nothing}, parts)


def _steps(bench: Bench, shows: bool) -> dict[str, float]:
    call = {"seconds": SECONDS, "shows": shows}
    found: dict[str, float] = bench.submitter(1).ask("output", task="bench/steps", input=call)["output"]
    return found


ROWS = (
    Row(
        key="preview",
        title="a training step that shows a preview",
        figures=[Figure("cost", "ms of CPU a preview", must_of_peer=0.2, aim_of_peer=0.05)],
        contenders=[
            Contender("rankcast, add_streaming_result", _run("preview"), is_ours=True),
            Contender("encoded on the thread that computes", _run("inline")),
        ],
        rounds=3,
    ),
    Row(
        key="small-events",
        title="a training step with 100 small events/s",
        figures=[Figure("slower", "% of CPU", must=1.0, aim=0.3)],
        contenders=[Contender("rankcast, add_streaming_result", _small_events, is_ours=True)],
        part_unit="% of CPU",
        rounds=3,
        # It warms up itself.
        warm_ups=0,
    ),
)
