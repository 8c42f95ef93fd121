"""The tasks of the tutorial, as a user's file has them."""

import os
import signal
import sys
import time

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image

from rankcast import DistributedWorker, task


@task("tutorial/countdown", world_size=2)
class Countdown(DistributedWorker):
    """Tells each step, and returns what all ranks together have."""

    def __call__(self, start: int = 3, pause_s: float = 0.0):
        for left in range(start, 0, -1):
            self.add_streaming_result({"left": left, "progress": 1 - left / start})
            time.sleep(pause_s)
        ranks = torch.tensor([self.rank])
        dist.all_reduce(ranks)
        return {"sum_of_ranks": int(ranks), "world_size": dist.get_world_size()}


@task("tutorial/patient", world_size=2)
class Patient(DistributedWorker):
    """Works until it is told to stop."""

    def __call__(self):
        self.add_streaming_result("working")
        while not self.should_stop():
            time.sleep(0.01)
        self.rank_print("I was told to stop")


@task("tutorial/fragile", world_size=2)
class Fragile(DistributedWorker):
    """One rank raises while the other waits for it in a collective."""

    def __call__(self):
        if self.rank == 1:
            raise ValueError("these weights are not mine")
        dist.barrier()


@task("tutorial/gallery")
class Gallery(DistributedWorker):
    """Streams what models produce."""

    def __call__(self):
        self.add_streaming_result({"preview": Image.new("RGB", (4, 2), "red")}, image_format="png")
        self.add_streaming_result({"latents": torch.ones(2, 3), "mask": np.zeros((2, 2), np.uint8)})
        self.add_streaming_result({"loss": np.float32(0.5), "nothing": float("nan")})
        return Image.new("RGB", (4, 2), "blue")


@task("tutorial/chatty", world_size=2)
class Chatty(DistributedWorker):
    """Prints on every rank."""

    def __call__(self):
        print(f"hello from {self.rank}")
        print(f"a warning from {self.rank}", file=sys.stderr)


@task("tutorial/climb", world_size=2)
class Climb(DistributedWorker):
    """Saves each step, and loses a rank behind one of them."""

    def __call__(self, height: int, slips_at: int):
        state = {"step": 0, "sum": 0}
        if self.last_checkpoint:  # the same on all ranks
            state = torch.load(self.last_checkpoint, weights_only=True)
        began_at = state["step"]
        for step in range(began_at + 1, height + 1):
            over_all_ranks = torch.tensor([step])
            dist.all_reduce(over_all_ranks)
            state = {"step": step, "sum": state["sum"] + int(over_all_ranks)}
            self.add_streaming_result({"step": step})
            self.save_checkpoint(state, step=step)  # rank 0 saves; it is announced when this returns
            dist.barrier()
            if self.attempt == 1 and self.rank == 1 and step == slips_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return {"began_at": began_at, "sum_of_steps": state["sum"]}
