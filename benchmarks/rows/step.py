"""What watching costs a training step: CPU time of the thread that computes, against the same step without.

Wall time says little about this where two cores are shared. A small network on one thread of the CPU; the
preview is an image of 512 × 512 as a PNG, each tenth step. Beside ours it is encoded where it is cast.
"""

from collections.abc import Callable

from benchmarks.bench import Bench
from benchmarks.measure import Contender, Figure, Row, Sample

STEPS_A_PREVIEW = 10


def _run(
    mode: str,
    figure: Callable[[float, float], dict[str, float]],
    blocks: int = 7,
    steps: int = 100,
    lead: int = 0,
) -> Callable[[Bench], Sample]:
    def measure(bench: Bench) -> Sample:
        call = {"mode": mode, "blocks": blocks, "steps": steps, "lead": lead}
        told = bench.submitter(1).ask("output", task="bench/trains", input=call)["output"]
        return Sample(figure(told["without_ms"], told["with_ms"]), None, told)

    return measure


def _cost(without_ms: float, with_ms: float) -> dict[str, float]:
    return {"cost": STEPS_A_PREVIEW * (with_ms - without_ms)}


def _share(without_ms: float, with_ms: float) -> dict[str, float]:
    return {"slower": 100 * (with_ms / without_ms - 1)}


ROWS = (
    Row(
        key="preview",
        title="a training step that shows a preview",
        figures=[Figure("cost", "ms of CPU a preview", must_of_peer=0.2, aim_of_peer=0.05)],
        contenders=[
            Contender("rankcast, add_streaming_result", _run("preview", _cost), is_ours=True),
            Contender("encoded on the thread that computes", _run("inline", _cost)),
        ],
        rounds=3,
    ),
    Row(
        key="small-events",
        title="a training step with 100 small events/s",
        figures=[Figure("slower", "% of CPU", must=1.0, aim=0.3)],
        contenders=[
            Contender(
                "rankcast, add_streaming_result",
                _run("small", _share, blocks=100, steps=50, lead=100),
                is_ours=True,
            )
        ],
        rounds=3,
        # It warms up itself.
        warm_ups=0,
    ),
)
