"""A GPU that does nothing before somebody waits for it, on the CPU; `from slow_gpu import SlowGpu`."""

import functools
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch

#: What torch answers only once the stream has done all that it was given.
STALLING = frozenset({"item", "to", "cpu", "numpy", "tolist", "__bool__", "__float__", "__int__"})


class SlowGpu:
    """One stream: kernels, copies and events in the order in which they were given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._stream: deque[Callable[[], object]] = deque()
        self._done = 0
        self.events = 0
        #: How often somebody waited for all of it.
        self.stalls = 0
        #: What an event says when it is waited for: the GPU has failed.
        self.error: Exception | None = None
        monkeypatch.setattr(torch, "empty_like", _empty_like(torch.empty_like))
        monkeypatch.setattr(torch.cuda, "Event", functools.partial(_Event, self))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self)

    def tensor(self, value: Any) -> torch.Tensor:
        """On this GPU."""
        tensor = torch.as_tensor(value).as_subclass(_OnGpu)
        tensor.gpu = self
        return tensor

    def launch(self, kernel: Callable[[], object]) -> None:
        self._stream.append(kernel)

    @property
    def end(self) -> int:
        """How many things it was given."""
        return self._done + len(self._stream)

    def stall(self) -> None:
        self.stalls += 1
        self.wait_for(self.end)

    def wait_for(self, end: int) -> None:
        if self.error is not None:
            raise self.error
        while self._done < end:
            self._stream.popleft()()
            self._done += 1


class _Event:
    def __init__(self, gpu: SlowGpu, *, blocking: bool) -> None:
        assert blocking, "a thread that spins takes the core from the one that computes"
        self._gpu = gpu
        gpu.events += 1

    def record(self, stream: SlowGpu) -> None:
        self._end = stream.end

    def synchronize(self) -> None:
        self._gpu.wait_for(self._end)


class _OnGpu(torch.Tensor):
    """Knows what waits and what does not."""

    gpu: SlowGpu

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == torch.Tensor.device.__get__:
            return torch.device("cuda", 0)
        if func == torch.Tensor.copy_:
            return _copy(*args, **kwargs)
        if func == torch.Tensor.contiguous:
            return _packed(*args)
        if func.__name__ in STALLING:
            args[0].gpu.stall()
            return func(_plain(args[0]), *args[1:], **(kwargs or {}))
        found = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(found, _OnGpu):
            found.gpu = args[0].gpu
        return found


def _copy(target: torch.Tensor, source: _OnGpu, *, non_blocking: bool) -> None:
    assert non_blocking
    assert target.is_pinned_here, "it waits for the GPU"  # type: ignore[attr-defined]
    assert target.stride() == source.stride(), "it goes through memory that is not pinned"
    assert not source.is_conj(), "torch conjugates the target, and what it will hold has not arrived"
    values = _plain(source)
    source.gpu.launch(lambda: target.copy_(values))


def _packed(source: _OnGpu) -> torch.Tensor:
    """On the GPU, in its turn."""
    values = _plain(source)
    copy = torch.zeros(values.shape, dtype=values.dtype)
    source.gpu.launch(lambda: copy.copy_(values))
    return source.gpu.tensor(copy)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_subclass(torch.Tensor).detach()


def _empty_like(made: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Without a GPU, torch has no pinned memory."""

    def empty_like(tensor: torch.Tensor, *, device: str, pin_memory: bool) -> torch.Tensor:
        copy = made(_plain(tensor), device=device)
        copy.is_pinned_here = pin_memory  # type: ignore[attr-defined]
        return copy

    return empty_like
