"""From POST to the first event that rank 0 streams, on a warm group.

Ours is read by a raw socket over real HTTP, a fresh connection a request, connecting included: as
the direct stream, and as `POST /jobs` and `GET /jobs/<id>/stream` after its answer. The first event
is the first that user code streamed: `queued` and `starting` do not count.

fal.distributed forwards events only while the call still runs, so all calls stay a while after their
event, and each request finds processes that slept. Ours is measured back to back too, as Celery is.

What no code of ours can go below is the sum of each hop's floor (peers/floors.py), at the same pace.
"""

from collections.abc import Mapping, Sequence

from benchmarks.bench import Bench
from benchmarks.measure import Contender, Figure, Row, Sample, percentile, times

CALLS = 20
LINGER_S = 0.15


#: By what peers/floors.py calls them, in the order of the way.
HOPS = {
    "http": "POST, until a route has been at Redis and back",
    "celery": "send_task to the task's first line",
    "script": "a script at Redis and back: claim",
    "dispatch": "a pickled message to a warm process",
    "event": "append and publish to a subscriber",
    "chunk": "a write of the server to a socket",
}
FLOORS = "sum of the floors of each hop"
FLOORS_BACK_TO_BACK = "sum of the floors, back to back"
FLOORS_OF_TWO = "sum of the floors with a second request"


def direct(bench: Bench) -> Sample:
    return times(bench.reader.ask("first_events", calls=CALLS, is_direct=True, linger_s=LINGER_S), p50=50)


def back_to_back(bench: Bench) -> Sample:
    return times(bench.reader.ask("first_events", calls=5 * CALLS, is_direct=True, linger_s=0.0), p50=50)


def by_job(bench: Bench) -> Sample:
    return times(bench.reader.ask("first_events", calls=CALLS, is_direct=False, linger_s=LINGER_S), p50=50)


def fal_distributed(bench: Bench) -> Sample:
    return times(bench.fal_distributed.ask("first_events", calls=CALLS, linger_s=LINGER_S), p50=50)


def celery(bench: Bench) -> Sample:
    return times(bench.celery(1).ask("round_trips", calls=5 * CALLS), p50=50)


def floors(bench: Bench) -> Sample:
    return floors_of(bench.floors.ask("hops", calls=CALLS, pause_s=LINGER_S)["ms"])


def floors_back_to_back(bench: Bench) -> Sample:
    return floors_of(bench.floors.ask("hops", calls=5 * CALLS, pause_s=0.0)["ms"])


def floors_of_two(bench: Bench) -> Sample:
    return floors_of(bench.floors.ask("hops", calls=CALLS, pause_s=LINGER_S)["ms"], requests=2)


def floors_of(ms: Mapping[str, Sequence[float]], requests: int = 1) -> Sample:
    """The sum over the hops, p50 each, from their milliseconds, with so many requests."""
    parts = {hop: percentile(ms[key], 50) for key, hop in HOPS.items()}
    parts[HOPS["http"]] *= requests
    return Sample({"p50": sum(parts.values())}, raw={"ms": ms}, parts=parts)


ROW = Row(
    key="first-event",
    title="POST to first event at an HTTP viewer, warm",
    figures=[Figure("p50", "ms", must=10, aim=5, must_of_peer=2.0, aim_of_peer=1.3)],
    contenders=[
        Contender("rankcast, POST /run/<task>/stream", direct, is_ours=True),
        Contender("rankcast, the same, back to back", back_to_back, is_ours=True, beside=FLOORS_BACK_TO_BACK),
        Contender("rankcast, POST /jobs + GET its stream", by_job, is_ours=True, beside=FLOORS_OF_TWO),
        Contender(FLOORS, floors),
        Contender(FLOORS_BACK_TO_BACK, floors_back_to_back),
        Contender(FLOORS_OF_TWO, floors_of_two),
        Contender("fal.distributed stream(), no HTTP", fal_distributed),
        Contender("bare Celery round trip, no HTTP, no ranks", celery),
    ],
    part_unit="ms",
)
