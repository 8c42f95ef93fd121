"""Step 6. Tensors as they stood, to be encoded later.

A copy from a GPU is only begun here, into pinned memory and in the order of the stream that computes: what
that stream does next goes on meanwhile, and changes nothing of the copy. Whoever encodes waits for it.
torch is there already: somebody has a tensor.
"""

import sys
from typing import Any

from rankcast.gpu_worker.forms import is_dense

#: Where tensors lie that can be copied so; of others the values are taken at once.
DEVICES = frozenset({"cpu", "cuda"})


def is_copyable(tensor: Any) -> bool:
    return tensor.device.type in DEVICES and is_dense(tensor) and not tensor.is_quantized


def is_far(tensor: Any) -> bool:
    """Whether to have its values at once is to wait for all that a device still has to do."""
    return bool(tensor.device.type != "cpu")


class Snapshots:
    """Copies of the tensors of one value, taken by one thread."""

    def __init__(self) -> None:
        #: Devices that copies come from, and when all of those have arrived.
        self._devices: set[Any] = set()
        self._arrivals: list[Any] = []

    def take(self, tensor: Any) -> Any:
        """The copy of a tensor that `is_copyable`, on the CPU; whole after `wait`."""
        if not is_far(tensor):
            return tensor.detach().clone()
        # torch would conjugate or negate the copy at once, before anything has come.
        source = tensor.detach().resolve_conj().resolve_neg()
        copy = _pinned_like(source)
        if copy.stride() != source.stride():
            # It has gaps, and would come by way of memory that is not pinned: it is packed where it is.
            source = source.contiguous()
            copy = _pinned_like(source)
        copy.copy_(source, non_blocking=True)
        self._devices.add(source.device)
        return copy

    def end(self) -> None:
        """No more are taken: one event a device stands behind all of its copies."""
        for device in self._devices:
            cuda = sys.modules["torch"].cuda
            # One that lets the thread sleep while it waits.
            arrival = cuda.Event(blocking=True)
            arrival.record(cuda.current_stream(device))
            self._arrivals.append(arrival)

    def have_come(self) -> bool:
        """Whether `wait` would not wait, nor fail."""
        try:
            return all(arrival.query() for arrival in self._arrivals)
        except RuntimeError:
            return False

    def wait(self) -> None:
        """Until all are whole. RuntimeError where the GPU failed."""
        for arrival in self._arrivals:
            arrival.synchronize()


def _pinned_like(tensor: Any) -> Any:
    """Room for it on the CPU, which a GPU fills without anybody's help."""
    return sys.modules["torch"].empty_like(tensor, device="cpu", pin_memory=True)
