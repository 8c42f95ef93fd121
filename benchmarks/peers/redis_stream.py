"""The floor of one stream: redis-py, XADD + PUBLISH in pipelines, or one PUBLISH an event; one subscriber.

No queue, no fence, no order check, no HTTP: what Redis and its client library alone can carry. Each
event of a burst costs one XADD and one PUBLISH, sent 256 events a pipeline; paced, one PUBLISH. The
subscriber is another process.
"""

import sys
import time
from collections.abc import Iterator
from itertools import islice

import orjson
import redis

from benchmarks.actor import Reply, serve
from benchmarks.payload import Event, fault_of, play_burst, play_paced

CHANNEL = "bench:floor"
BATCH_EVENTS = 256


class Publisher:
    """Sends a pipeline as soon as it holds a batch."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._pipeline = client.pipeline(transaction=False)

    def publish(self, count: int) -> Reply:
        """The whole burst; CLOCK_MONOTONIC of the first event, in ns."""
        self._client.delete(CHANNEL)
        began_ns = play_burst(self._emit, count=count)
        self._pipeline.execute()
        return {"began_ns": began_ns}

    def publish_paced(self, count: int, every_s: float) -> Reply:
        """One at a time, at a pace."""
        play_paced(
            lambda event: self._client.publish(CHANNEL, orjson.dumps(event)), count=count, every_s=every_s
        )
        return {}

    def _emit(self, event: Event) -> None:
        data = orjson.dumps(event)
        self._pipeline.xadd(CHANNEL, {"data": data})
        self._pipeline.publish(CHANNEL, data)
        if len(self._pipeline) >= 2 * BATCH_EVENTS:
            self._pipeline.execute()


class Subscriber:
    """Reads while the publisher writes; judges afterwards."""

    def __init__(self, client: redis.Redis) -> None:
        self._channel = client.pubsub()

    def subscribe(self) -> Reply:
        """Returns when the server has confirmed it."""
        self._channel.subscribe(CHANNEL)
        self._channel.get_message(timeout=10)
        return {}

    def receive(self, count: int) -> Reply:
        """Arrival of the last of `count` events, CLOCK_MONOTONIC in ns, and what was wrong with them."""
        received = list(islice(self._data(), count))
        ended_ns = time.monotonic_ns()
        return {"ended_ns": ended_ns, "fault": fault_of([orjson.loads(data) for data in received], count)}

    def receive_paced(self, count: int) -> Reply:
        """Ways of stamped events from before they were made JSON to here; milliseconds."""
        ms, events = [], []
        for data in islice(self._data(), count):
            at_ns = time.monotonic_ns()
            events.append(orjson.loads(data))
            ms.append((at_ns - events[-1]["at_ns"]) / 1e6)
        return {"ms": ms, "fault": fault_of(events, count)}

    def _data(self) -> Iterator[bytes]:
        for message in self._channel.listen():
            if message["type"] == "message":
                yield message["data"]


if __name__ == "__main__":
    connection = redis.Redis.from_url(sys.argv[1])
    publisher, subscriber = Publisher(connection), Subscriber(connection)
    serve(
        [
            *(publisher.publish, publisher.publish_paced),
            *(subscriber.subscribe, subscriber.receive, subscriber.receive_paced),
        ]
    )
