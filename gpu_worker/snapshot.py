"""Step 6. A tensor as it stood, to be encoded later.

A copy from a GPU is only begun here, into pinned memory and in the order of the stream that computes: what
that stream does next goes on meanwhile, and changes nothing of the copy. Whoever encodes waits for it.
torch is there already: somebody has a tensor.
"""

import sys
from collections.abc import Callable
from typing import Any

#: Where tensors lie that can be copied so; of others the values are taken at once.
DEVICES = frozenset({"cpu", "cuda"})


class Snapshot:
    """The copy of a dense tensor."""

    def __init__(self, tensor: Any) -> None:
        self._wait: Callable[[], None] | None = None
        if tensor.device.type == "cpu":
            self._copy = tensor.detach().clone()
            return
        torch = sys.modules["torch"]
        self._copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._copy.copy_(tensor.detach(), non_blocking=True)
        # One that lets the thread sleep while it waits.
        arrival = torch.cuda.Event(blocking=True)
        arrival.record(torch.cuda.current_stream(tensor.device))
        self._wait = arrival.synchronize

    def tensor(self) -> Any:
        """It, on the CPU. RuntimeError where the GPU failed."""
        if self._wait is not None:
            self._wait()
        return self._copy
