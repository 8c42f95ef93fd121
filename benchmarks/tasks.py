"""The tasks that the benchmarks run on Rankcast; peers/fal_worker.py is the same for fal.distributed."""

import time
from itertools import pairwise
from random import Random
from statistics import mean, median
from typing import Any

import torch
import torch.distributed as dist
from PIL import Image

from benchmarks.excess import NEIGHBOURS, Taken, excess
from benchmarks.payload import play_burst, play_paced
from rankcast import DistributedWorker, task
from rankcast.gpu_worker.payload import encode

EVENTS_PER_S = 100
#: Where nothing is sent.
BATCH_EVERY_NS = 100_000_000


@task("bench/source", world_size=2)
class Source(DistributedWorker):
    """Rank 0 streams events at a pace or as a burst; the other rank has nothing to do."""

    def __call__(
        self, mode: str, count: int, first: int = 0, every_s: float = 0.0, linger_s: float = 0.0
    ) -> dict[str, Any]:
        if self.rank != 0:
            return {}
        if mode == "burst":
            return {"began_ns": play_burst(self._emit, count=count)}
        play_paced(self._emit, count=count, first=first, every_s=every_s, linger_s=linger_s)
        return {}

    def _emit(self, event: dict[str, Any]) -> None:
        self.add_streaming_result(event, as_text_event=True)


@task("bench/group", world_size=2)
class Group(DistributedWorker):
    """A group that proves itself before it is ready: every rank prints the sum of ones over the group."""

    def setup(self) -> None:
        total = torch.ones(1)
        dist.all_reduce(total)
        print(f"sum {total.item()}", flush=True)

    def __call__(self) -> None:
        """Never called: what is measured is the start."""


@task("bench/noop")
class Noop(DistributedWorker):
    """Returns what it was given; one that holds keeps its slot until it is cancelled."""

    def __call__(self, number: int, holds: bool = False) -> int:
        while holds and not self.cancelled:
            time.sleep(0.005)
        return number


class Network:
    """A small one, to be trained on one thread of the CPU."""

    def __init__(self, samples: int) -> None:
        self._layers = torch.nn.Sequential(
            torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512)
        )
        self._optimizer = torch.optim.SGD(self._layers.parameters(), lr=0.01)
        self._batch = torch.randn(samples, 512)

    def step(self) -> None:
        self._optimizer.zero_grad()
        self._layers(self._batch).pow(2).mean().backward()
        self._optimizer.step()


@task("bench/steps")
class Steps(DistributedWorker):
    """Steps of a small network, and 100 small events a second from the thread that computes them."""

    def setup(self) -> None:
        self.network = Network(samples=32)
        self.sent: list[int] = []
        _note_calls(self._services._publisher._log, "append", self.sent)  # type: ignore[attr-defined]

    def __call__(self, seconds: float, shows: bool, lead_s: float = 2.0) -> dict[str, float]:
        """What an event and a batch cost, as benchmarks.excess has it. Where nothing is shown there are
        moments in the place of both: what those come to tells how far the figure may be wrong."""
        self._train(lead_s, shows)
        self.sent.clear()
        steps = self._train(seconds, shows)
        batches = self.sent if shows else range(steps.ended[0], steps.ended[-1], BATCH_EVERY_NS)
        found = excess(steps._replace(batches=list(batches)))
        return {**found._asdict(), "percent": found.percent, "error_percent": found.error_percent}

    def _train(self, seconds: float, shows: bool) -> Taken:
        """The events that are due go before steps that are drawn from the next few: so the pace stays what
        it is, and it is not long steps that have more of them."""
        draws, due = Random(0), 0
        ended, cpu, events = [time.monotonic_ns()], [time.thread_time_ns()], [0]
        while (elapsed_s := (ended[-1] - ended[0]) / 1e9) < seconds:
            before, due = due, int(EVENTS_PER_S * elapsed_s)
            places = draws.choices(range(NEIGHBOURS), k=due - before)
            for place in range(NEIGHBOURS):
                events.append(places.count(place))
                for _ in range(events[-1] if shows else 0):
                    self.add_streaming_result({"step": len(events), "loss": 0.5})
                self.network.step()
                ended.append(time.monotonic_ns())
                cpu.append(time.thread_time_ns())
        return Taken(ended[1:], [after - before for before, after in pairwise(cpu)], events[1:])


def _note_calls(owner: Any, name: str, moments: list[int]) -> None:
    """Have the moments of all calls of a method, on CLOCK_MONOTONIC in ns."""
    method = getattr(owner, name)

    def noted(*args: Any, **named: Any) -> Any:
        moments.append(time.monotonic_ns())
        return method(*args, **named)

    setattr(owner, name, noted)


@task("bench/trains")
class Trains(DistributedWorker):
    """Steps of a small network with and without something to watch, block by block in turn."""

    def setup(self) -> None:
        self.network = Network(samples=128)
        noise = torch.randn(3, 8, 8)
        smooth = torch.nn.functional.interpolate(noise[None], 512, mode="bicubic")[0]
        pixels = (smooth * 40 + 128).clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
        self.image = Image.fromarray(pixels.numpy())

    def __call__(self, mode: str, blocks: int = 7, steps: int = 100) -> dict[str, float]:
        """In ms of this thread's CPU time a step. Each block is held to both of its neighbours: how fast the
        machine is, which others use as well, changes more from minute to minute than any of this costs."""
        self._block(mode, steps)  # warms up
        bare, shown = [self._block("", steps)], []
        for _ in range(blocks):
            shown.append(self._block(mode, steps))
            bare.append(self._block("", steps))
        without_ms = median(bare)
        more = [each - mean(around) for each, around in zip(shown, pairwise(bare), strict=True)]
        return {"without_ms": without_ms, "with_ms": without_ms + median(more)}

    def _block(self, mode: str, steps: int) -> float:
        began = time.thread_time()
        for step in range(steps):
            self.network.step()
            if step % 10 == 0:
                self._show(mode)
        return (time.thread_time() - began) / steps * 1000

    def _show(self, mode: str) -> None:
        if mode == "preview":
            self.add_streaming_result({"preview": self.image}, image_format="png")
        elif mode == "inline":
            encode({"preview": self.image}, "png")
