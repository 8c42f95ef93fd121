"""From POST to the first event that rank 0 streams, on a warm group.

Ours is read by a raw socket over real HTTP, a fresh connection a request, connecting included: as
the direct stream, and as `POST /jobs` and `GET /jobs/<id>/stream` after its answer. The first event
is the first that user code streamed: `queued` and `starting` do not count.

fal.distributed forwards events only while the call still runs, so all calls stay a while after their
event, and each request finds processes that slept. Ours is measured back to back too, as Celery is.
"""

from benchmarks.bench import Bench
from benchmarks.measure import Contender, Figure, Row, Sample, times

CALLS = 20
LINGER_S = 0.15


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


ROW = Row(
    key="first-event",
    title="POST to first event at an HTTP viewer, warm",
    figures=[Figure("p50", "ms", must=10, aim=5)],
    contenders=[
        Contender("rankcast, POST /run/<task>/stream", direct, is_ours=True),
        Contender("rankcast, the same, back to back", back_to_back, is_ours=True),
        Contender("rankcast, POST /jobs + GET its stream", by_job, is_ours=True),
        Contender("fal.distributed stream(), no HTTP", fal_distributed),
        Contender("bare Celery round trip, no HTTP, no ranks", celery),
    ],
)
