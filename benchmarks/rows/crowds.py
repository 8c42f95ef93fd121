"""Crowds before one web process, beside nchan: what a delivery, a stream and a connection cost.

The events come from outside of both: POSTs into nchan's memory, appends to a job's log at ours. Counted is
the CPU of the server that holds the streams, kernel included; what Redis spends is in the raw figures.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.crowd_web import CrowdWeb
from benchmarks.load import Crowd, put
from benchmarks.measure import Contender, Figure, Row, Sample
from benchmarks.peers.bare_gunicorn import BareGunicorn
from benchmarks.peers.nchan import Nchan
from benchmarks.server import Server

#: Viewers before those that are counted: they pay for what is made once.
WARMING = 50


def _row(key: str, title: str, crowd: Crowd, figures: Sequence[Figure], floor: bool = False) -> Row:
    def ours(bench: Bench) -> Sample:
        return put(crowd, bench.crowd_web.target(crowd.channels))

    def nchan(bench: Bench) -> Sample:
        return put(crowd, bench.nchan.target())

    def bare_hub(bench: Bench) -> Sample:
        return put(crowd, bench.bare_hub.target(crowd.channels))

    contenders = [
        Contender("rankcast, one web process", ours, is_ours=True),
        Contender("nginx + nchan, one worker", nchan),
    ]
    if floor:
        contenders.append(Contender("bare gevent + hiredis: hears and writes, keeps nothing", bare_hub))
    return Row(key=key, title=title, figures=figures, contenders=contenders, rounds=3)


def _idle(server: Callable[[Path], Server]) -> Callable[[Bench], Sample]:
    """What a thousand viewers cost a server that has had a few before."""

    def measure(bench: Bench) -> Sample:
        with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as one:
            target = replace(one.target(), publish=None)
            put(Crowd(viewers=WARMING), target)
            return put(Crowd(viewers=1000), target)

    return measure


IDLE = Row(
    key="idle",
    title="1,000 viewers come, and nothing happens; server started afresh",
    figures=[
        Figure("connect", "µs a stream", must=250, aim=120),
        Figure("memory", "KiB a stream", must=4, aim=2),
    ],
    contenders=[
        Contender("rankcast, one web process", _idle(CrowdWeb), is_ours=True),
        Contender("nginx + nchan, one worker", _idle(Nchan)),
        Contender("bare gunicorn + gevent: a head, and no application", _idle(BareGunicorn)),
    ],
    rounds=3,
    warm_ups=0,
)

ROWS = (
    IDLE,
    _row(
        "crowd",
        "1,000 viewers of one job, 10 events/s",
        Crowd(viewers=1000, rate=10),
        [Figure("cpu", "µs a delivery", must_of_peer=1.2, aim_of_peer=0.8), Figure("p99", "ms")],
    ),
    _row(
        "large-crowd",
        "5,000 viewers of one job, 10 events/s",
        Crowd(viewers=5000, rate=10),
        [
            Figure("p99", "ms", must_of_peer=1.0),
            Figure("cpu", "µs a delivery"),
        ],
    ),
    _row(
        "saturation",
        "1,000 viewers of one job, 4 events always on their way",
        Crowd(viewers=1000, window=4),
        [
            Figure("rate", "deliveries/s", must_of_peer=1.0, aim_of_peer=1.5, is_better_high=True),
            Figure("cpu", "µs a delivery"),
        ],
    ),
    _row(
        "churn",
        "500 viewers, 20 events/s, 100 of them dropped and resumed each second",
        Crowd(viewers=500, rate=20, drops=100),
        [Figure("cpu", "µs a delivery", must_of_peer=2.5, aim_of_peer=1.5), Figure("p99", "ms")],
    ),
    _row(
        "many-jobs",
        "1,000 jobs with one viewer each, 1 event/s",
        Crowd(viewers=1000, channels=1000, rate=1),
        # As the limits of 60 and 45 µs were to nchan's 44 where they were set.
        [
            Figure("cpu", "µs a delivery", must=60, aim=45, must_of_peer=1.4, aim_of_peer=1.05),
            Figure("p99", "ms"),
        ],
        floor=True,
    ),
)
