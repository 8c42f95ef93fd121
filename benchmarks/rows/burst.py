"""A burst of 20,000 small events as fast as user code can hand them over: how many arrive, in order.

The call returns right after the last event.
"""

from benchmarks.bench import Bench
from benchmarks.measure import Contender, Figure, Row, Sample

COUNT = 20_000


def ours(bench: Bench) -> Sample:
    return _sample(bench.reader.ask("burst", count=COUNT))


def fal_distributed(bench: Bench) -> Sample:
    return _sample(bench.fal_distributed.ask("burst", count=COUNT))


def _sample(reply: dict[str, float | str | None]) -> Sample:
    received, fault = reply["received"], reply["fault"]
    return Sample({"received": float(received or 0)}, str(fault) if fault else None)


ROW = Row(
    key="burst",
    title="burst of 20,000 small events: received in order",
    figures=[Figure("received", "events", must=COUNT, is_better_high=True)],
    contenders=[
        Contender("rankcast, GET /jobs/<id>/stream", ours, is_ours=True),
        Contender("fal.distributed stream(), no HTTP", fal_distributed),
    ],
    rounds=3,
)
