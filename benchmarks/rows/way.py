"""The way of one event: `add_streaming_result` on rank 0 to an HTTP viewer, at an easy pace.

Each event carries CLOCK_MONOTONIC of the moment it was handed over; the viewer, on the same machine,
takes the same clock when recv returned its last byte.
"""

from benchmarks.bench import Bench
from benchmarks.measure import Contender, Figure, Row, Sample, times

PACE = {"count": 200, "every_s": 1 / 75}
CALL = {**PACE, "linger_s": 0.15}


def ours(bench: Bench) -> Sample:
    return times(bench.reader.ask("paced", **CALL), p50=50, p99=99)


def raw_publish(bench: Bench) -> Sample:
    bench.redis_subscriber.ask("subscribe")
    bench.redis_subscriber.begin("receive_paced", count=PACE["count"])
    bench.redis_publisher.ask("publish_paced", **PACE)
    return times(bench.redis_subscriber.answer(), p50=50, p99=99)


def fal_distributed(bench: Bench) -> Sample:
    return times(bench.fal_distributed.ask("paced", **CALL), p50=50, p99=99)


ROW = Row(
    key="way",
    title="add_streaming_result to HTTP viewer, 75 events/s",
    figures=[
        Figure("p50", "ms", must=2, aim=1, must_of_peer=5, aim_of_peer=3),
        Figure("p99", "ms", must=10, aim=5, must_of_peer=5, aim_of_peer=3),
    ],
    contenders=[
        Contender("rankcast, GET /jobs/<id>/stream", ours, is_ours=True),
        Contender("redis-py, one PUBLISH to a subscriber", raw_publish),
        Contender("fal.distributed stream(), no HTTP", fal_distributed),
    ],
)
