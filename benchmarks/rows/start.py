"""How long a 2-rank gloo group takes to start, from the second start on.

Ours: `RankGroup` forked off a worker's forkserver, until every rank said that `setup` is done. Each
group is proved by an all-reduce over its ranks, and closed, before the next contender's turn.
"""

from benchmarks.bench import Bench
from benchmarks.measure import Contender, Figure, Row, Sample

WORLD_SIZE = 2


def ours(bench: Bench) -> Sample:
    return _sample(bench.rank_group.ask("start"))


def spawned(bench: Bench) -> Sample:
    return _sample(bench.spawned_ranks.ask("start"))


def fal_distributed(bench: Bench) -> Sample:
    return _sample(bench.fal_distributed.ask("start"))


def _sample(reply: dict[str, float]) -> Sample:
    is_whole = reply["sum"] == WORLD_SIZE
    return Sample({"start": reply["ms"]}, None if is_whole else f"all-reduce gave {reply['sum']}")


ROW = Row(
    key="start",
    title="start of a 2-rank gloo group, second start on",
    figures=[Figure("start", "ms", must=150, aim=60)],
    contenders=[
        Contender("rankcast, forkserver", ours, is_ours=True),
        Contender("multiprocessing spawn", spawned),
        Contender("fal.distributed runner.start()", fal_distributed),
    ],
)
