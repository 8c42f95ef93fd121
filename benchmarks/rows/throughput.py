"""Events a second of one stream into one viewer, from the first handed over to the last received.

Ours goes the whole way: JSON, buffer, one script a batch, log and channel, hub, SSE, HTTP, socket. The
floor is what redis-py alone can carry into a subscriber.
"""

from benchmarks.bench import Bench
from benchmarks.measure import Contender, Figure, Row, Sample

COUNT = 50_000


def ours(bench: Bench) -> Sample:
    reply = bench.reader.ask("burst", count=COUNT)
    return _sample(reply["began_ns"], reply["ended_ns"], reply["fault"])


def redis_py(bench: Bench) -> Sample:
    bench.redis_subscriber.ask("subscribe")
    bench.redis_subscriber.begin("receive", count=COUNT)
    began_ns = bench.redis_publisher.ask("publish", count=COUNT)["began_ns"]
    reply = bench.redis_subscriber.answer()
    return _sample(began_ns, reply["ended_ns"], reply["fault"])


def _sample(began_ns: int, ended_ns: int, fault: str | None) -> Sample:
    return Sample({"rate": COUNT / max(ended_ns - began_ns, 1) * 1e9}, fault)


ROW = Row(
    key="throughput",
    title=f"one stream of {COUNT:,} events into one HTTP viewer",
    figures=[Figure("rate", "events/s", must=20_000, must_of_peer=0.5, aim_of_peer=0.8, is_better_high=True)],
    contenders=[
        Contender("rankcast, GET /jobs/<id>/stream", ours, is_ours=True),
        Contender("redis-py XADD + PUBLISH to a subscriber", redis_py),
    ],
)
