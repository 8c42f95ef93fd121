"""What stands at the other end of each hop that floors.py measures; each tells when its first line ran.

The libraries that ours has there, set as ours sets them, and nothing of ours. Times are CLOCK_MONOTONIC in
ns, which all processes of a host share.
"""

import multiprocessing.connection
import os
import time
from collections.abc import Iterator
from functools import cache

import flask
import redis
from celery import Celery
from kombu.entity import Exchange, Queue

#: Where Redis is, for the web process and the worker.
REDIS_URL = "RANKCAST_BENCH_FLOOR_REDIS"
QUEUE = Queue("bench-floor", Exchange(""), routing_key="bench-floor")
#: What a POST leaves, what a task tells, and where an event goes.
POSTED, TOLD, EVENTS = "bench:floor:posted", "bench:floor:told", "bench:floor:events"
#: Before a chunk is written: its reader is to wait for it.
SETTLE_S = 0.005

Pipe = multiprocessing.connection.Connection


@cache
def client() -> redis.Redis:
    return redis.Redis.from_url(os.environ[REDIS_URL])


web = flask.Flask("floor")


@web.post("/")
def take() -> flask.Response:
    """One round trip to Redis; when that was made."""
    client().set(POSTED, flask.request.get_data())
    return flask.jsonify(at_ns=time.monotonic_ns())


@web.get("/")
def stream() -> flask.Response:
    """Two chunks: the second says when it was handed over to be written."""
    return flask.Response(_chunks(), content_type="text/event-stream", direct_passthrough=True)


def _chunks() -> Iterator[bytes]:
    yield b":\n\n"
    time.sleep(SETTLE_S)
    yield f"data: {time.monotonic_ns()}\n\n".encode()


app = Celery("floor")
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_default_exchange="",
    task_queues=[QUEUE],
    broker_connection_retry_on_startup=True,
    broker_transport_options={"ack_emulation": False, "priority_steps": [0]},
)


@app.task(name="bench.first_line")
def first_line() -> None:
    at_ns = time.monotonic_ns()
    client().rpush(TOLD, at_ns)


def rank(pipe: Pipe) -> None:
    """A warm process that waits for messages."""
    while True:
        pipe.recv()
        pipe.send(time.monotonic_ns())


def subscriber(url: str, pipe: Pipe) -> None:
    """Tells of its subscription, and then of each message."""
    channel = redis.Redis.from_url(url).pubsub()
    channel.subscribe(EVENTS)
    for _ in channel.listen():
        pipe.send(time.monotonic_ns())
