"""The same ranks started by multiprocessing's `spawn`: an interpreter and an `import torch` each."""

import multiprocessing
import multiprocessing.connection
import os
import time

import torch
import torch.distributed as dist

from benchmarks.actor import Reply, serve

WORLD_SIZE = 2


def start() -> Reply:
    """One start of a 2-rank gloo group, proved by an all-reduce; milliseconds until all ranks are ready."""
    context = multiprocessing.get_context("spawn")
    began = time.perf_counter()
    pipes = [context.Pipe() for _ in range(WORLD_SIZE)]
    ranks = [
        context.Process(target=rank_main, args=(rank, theirs), daemon=True)
        for rank, (_, theirs) in enumerate(pipes)
    ]
    for rank in ranks:
        rank.start()
    ours = [pipe for pipe, _ in pipes]
    ours[1].send(ours[0].recv())
    for pipe in ours:
        pipe.recv()
    ms = (time.perf_counter() - began) * 1e3
    sums = [pipe.recv() for pipe in ours]
    for rank in ranks:
        rank.join()
    return {"ms": ms, "sum": sums[0]}


def rank_main(rank: int, pipe: "multiprocessing.connection.Connection[object, object]") -> None:
    """Rendezvous through a store on a port the kernel chose, say ready, then all-reduce once."""
    torch.set_num_threads(1)
    store = dist.TCPStore(
        "127.0.0.1", 0 if rank == 0 else int(str(pipe.recv())), WORLD_SIZE, rank == 0, wait_for_workers=False
    )
    if rank == 0:
        pipe.send(store.port)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=WORLD_SIZE)
    pipe.send("ready")
    total = torch.ones(1)
    dist.all_reduce(total)
    pipe.send(total.item())
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    serve([start])
