"""fal.distributed as a peer: its DistributedRunner alone, no HTTP before or behind it.

Runs in any environment that has fal, pyzmq and torch; uses nothing but the public DistributedRunner
(start, invoke, stream, stop). Its text events are the bytes that a fal app would send as SSE.
"""

import asyncio
import json
import socket
import time
from typing import Any

from fal.distributed import DistributedRunner

from benchmarks.actor import Reply, serve
from benchmarks.payload import fault_of
from benchmarks.peers.fal_worker import Source

WORLD_SIZE = 2


class Peer:
    """One runner, started once for the calls that need it warm."""

    def __init__(self, loop: asyncio.Runner) -> None:
        self._loop = loop
        self._warm: Any = None

    def start(self) -> Reply:
        """One start of a fresh runner, the group proved by an all-reduce; milliseconds."""
        return self._loop.run(self._start())

    async def _start(self) -> Reply:
        runner = new_runner()
        began = time.perf_counter()
        await runner.start()
        ms = (time.perf_counter() - began) * 1e3
        reply = await runner.invoke({"mode": "check"})
        await runner.stop()
        return {"ms": ms, "sum": reply.get("sum")}

    def first_events(self, calls: int, linger_s: float) -> Reply:
        """From stream() to the first event it yields, `calls` times on a warm runner; milliseconds."""
        return self._loop.run(self._first_events(calls, linger_s))

    async def _first_events(self, calls: int, linger_s: float) -> Reply:
        runner = await self._warm_runner()
        waits_ms, events = [], []
        for n in range(calls):
            began_ns = time.monotonic_ns()
            call = {"mode": "paced", "count": 1, "first": n, "linger_s": linger_s}
            arrivals = await read(runner, call)
            waits_ms.append((arrivals[0][0] - began_ns) / 1e6)
            events += [event for _, event in arrivals]
        return {"ms": waits_ms, "fault": fault_of(events, calls)}

    def paced(self, count: int, every_s: float, linger_s: float) -> Reply:
        """Ways of `count` stamped events from add_streaming_result to the caller; milliseconds."""
        return self._loop.run(self._paced(count, every_s, linger_s))

    async def _paced(self, count: int, every_s: float, linger_s: float) -> Reply:
        runner = await self._warm_runner()
        arrivals = await read(
            runner, {"mode": "paced", "count": count, "every_s": every_s, "linger_s": linger_s}
        )
        events = [event for _, event in arrivals]
        ways_ms = [(at_ns - event["at_ns"]) / 1e6 for at_ns, event in arrivals]
        return {"ms": ways_ms, "fault": fault_of(events, count)}

    def burst(self, count: int) -> Reply:
        """How much of a burst its caller receives; the runner is thrown away with what it still holds."""
        return self._loop.run(self._burst(count))

    async def _burst(self, count: int) -> Reply:
        runner = new_runner()
        await runner.start()
        events = [event for _, event in await read(runner, {"mode": "burst", "count": count})]
        await runner.stop()
        return {"received": len(events), "fault": fault_of(events, count)}

    async def _warm_runner(self) -> Any:
        if self._warm is None:
            self._warm = new_runner()
            await self._warm.start()
            await self._warm.invoke({"mode": "check"})
        return self._warm

    def close(self) -> None:
        if self._warm is not None:
            self._loop.run(self._warm.stop())


def new_runner() -> Any:
    """A runner on a free rendezvous port: its default, 29500, is the same for everybody."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return DistributedRunner(Source, world_size=WORLD_SIZE, master_port=port)


async def read(runner: Any, payload: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The call's intermediate events, each with CLOCK_MONOTONIC of its arrival in ns; not its result."""
    arrivals = [(time.monotonic_ns(), frame) async for frame in runner.stream(payload, as_text_events=True)]
    events = [(at_ns, json.loads(frame.removeprefix(b"data: "))) for at_ns, frame in arrivals]
    return [(at_ns, event) for at_ns, event in events if "n" in event]


if __name__ == "__main__":
    with asyncio.Runner() as loop:
        peer = Peer(loop)
        serve([peer.start, peer.first_events, peer.paced, peer.burst])
        peer.close()
