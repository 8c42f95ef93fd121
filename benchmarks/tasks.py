"""The tasks that the benchmarks run on Rankcast; peers/fal_worker.py is the same for fal.distributed."""

import time
from itertools import pairwise
from statistics import mean, median
from typing import Any

import torch
import torch.distributed as dist
from PIL import Image

from benchmarks.payload import play_burst, play_paced
from rankcast import DistributedWorker, task
from rankcast.gpu_worker.payload import encode


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


@task("bench/trains")
class Trains(DistributedWorker):
    """Steps of a small network with and without something to watch, block by block in turn."""

    def setup(self) -> None:
        self.model = torch.nn.Sequential(
            torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512)
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        # Steps of less than 10 ms, so that there are 100 of them a second and more.
        self.batch = torch.randn(128, 512)
        noise = torch.randn(3, 8, 8)
        smooth = torch.nn.functional.interpolate(noise[None], 512, mode="bicubic")[0]
        pixels = (smooth * 40 + 128).clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
        self.image = Image.fromarray(pixels.numpy())

    def __call__(self, mode: str, blocks: int = 7, steps: int = 100, lead: int = 0) -> dict[str, float]:
        """In ms of this thread's CPU time a step. Each block is held to both of its neighbours: how fast the
        machine is, which others use as well, changes more from minute to minute than any of this costs. A
        block with something to watch is counted after `lead` steps like that."""
        self._block(mode, steps)  # warms up
        bare, shown = [self._block("", steps)], []
        for _ in range(blocks):
            shown.append(self._block(mode, steps, lead))
            bare.append(self._block("", steps))
        without_ms = median(bare)
        more = [each - mean(around) for each, around in zip(shown, pairwise(bare), strict=True)]
        return {"without_ms": without_ms, "with_ms": without_ms + median(more)}

    def _block(self, mode: str, steps: int, lead: int = 0) -> float:
        self.next_at = time.monotonic()
        began = time.thread_time()
        for step in range(-lead, steps):
            if step == 0:
                began = time.thread_time()
            self.optimizer.zero_grad()
            self.model(self.batch).pow(2).mean().backward()
            self.optimizer.step()
            self._show(mode, step)
        return (time.thread_time() - began) / steps * 1000

    def _show(self, mode: str, step: int) -> None:
        if mode == "small" and time.monotonic() >= self.next_at:
            self.next_at += 0.01
            self.add_streaming_result({"step": step, "loss": 0.5})
        elif mode == "preview" and step % 10 == 0:
            self.add_streaming_result({"preview": self.image}, image_format="png")
        elif mode == "inline" and step % 10 == 0:
            encode({"preview": self.image}, "png")
