"""Ours as sseload publishes to it: the rank 0 of many jobs, without ranks.

    python -m benchmarks.feeder REDIS_URL CLAIMS

stdin has `<channel>\t<payload>` lines; each becomes an event of the job of that channel, those that are
there together go in one append, as a rank 0's publisher does it. CLAIMS is a file of one claim a line.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rankcast.tasks.connect import connect
from rankcast.tasks.event import RESULT
from rankcast.tasks.eventlog import BATCH_EVENTS, EventLog
from rankcast.tasks.job import JobOptions, new_token
from rankcast.tasks.settings import Settings
from rankcast.tasks.store import JobStore

TASK = "bench/crowd"
READ_BYTES = 1 << 20


class Place(NamedTuple):
    """What an append shows."""

    job_id: str
    fence: int
    token: str


def begin(store: JobStore, prefix: str, channels: int) -> list[Place]:
    """Running jobs, `<prefix><channel>` each."""
    places = []
    for channel in range(channels):
        job_id = store.create(
            task=TASK, input=b"{}", options=JobOptions(), job_id=f"{prefix}{channel}"
        ).job_id
        claim = store.claim(task=TASK, token=new_token(), worker="bench", job_id=job_id, is_warm=True)
        assert claim is not None
        store.start(claim)
        places.append(Place(claim.job_id, claim.fence, claim.token))
    return places


def feed(log: EventLog, places: Sequence[Place]) -> None:
    lasts = [1] * len(places)
    for payloads in _arriving():
        for channel, data in payloads.items():
            for start in range(0, len(data), BATCH_EVENTS):
                events = [(RESULT, each) for each in data[start : start + BATCH_EVENTS]]
                lasts[channel] = log.append(
                    **places[channel]._asdict(), first=lasts[channel] + 1, events=events
                ).last


def _arriving() -> Iterator[dict[int, list[bytes]]]:
    """What has arrived since, by channel."""
    rest = b""
    while read := os.read(0, READ_BYTES):
        *lines, rest = (rest + read).split(b"\n")
        found: dict[int, list[bytes]] = {}
        for line in lines:
            channel, _, payload = line.partition(b"\t")
            found.setdefault(int(channel), []).append(payload)
        yield found


if __name__ == "__main__":
    url = sys.argv[1]
    claims = [Place(*json.loads(line)) for line in Path(sys.argv[2]).read_text().splitlines()]
    with connect(url) as client:
        feed(EventLog(client, Settings(redis_url=url)), claims)
