"""Two workers of examples/fal_port, run by fal's own DistributedRunner; told is what its `stream` yields.

port.py [[name of the class, payload], …]

Runs with fal's package, on two ranks, which import this file again: the swaps hold there, too.
"""

import asyncio
import json
import os
import socket
import sys
from concurrent.futures import Future
from itertools import groupby
from typing import Any

import with_fal
from fal.distributed import DistributedRunner, DistributedWorker

from benchmarks.peers import fal_on_cpu  # noqa: F401  gloo for NCCL

WORLD_SIZE = 2

_run_in_worker = DistributedWorker.run_in_worker


def _run_to_the_last_event(self: Any, func: Any, *args: Any, **kwargs: Any) -> Future[Any]:
    """fal forwards events only until the call is done, and keeps the rest for the next one: here a call is
    done when they are forwarded."""
    future = _run_in_worker(self, func, *args, **kwargs)
    if func == self.__call__:
        future.done = lambda: Future.done(future) and self.queue.empty()
    return future


DistributedWorker.run_in_worker = _run_to_the_last_event


async def stream(worker: str, payloads: list[Any]) -> None:
    # Its default port is the same for everybody.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    runner = DistributedRunner(getattr(with_fal, worker), world_size=WORLD_SIZE, master_port=port)
    async with runner:
        for payload in payloads:
            frames = [frame async for frame in runner.stream(payload, as_text_events=True)]
            assert all(frame.startswith(b"data: ") and frame.endswith(b"\n\n") for frame in frames)
            print(json.dumps([json.loads(frame.removeprefix(b"data: ")) for frame in frames]), file=TOLD)


if __name__ == "__main__":
    # fal and its ranks print, too.
    TOLD = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    calls = [json.loads(text) for text in sys.argv[1:]]
    for worker, group in groupby(calls, key=lambda call: call[0]):
        asyncio.run(stream(worker, [payload for _, payload in group]))
