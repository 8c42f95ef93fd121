"""Step 6. What of an event is left to be encoded, so that the thread that computes does not wait for it.

That is what takes long to encode: large images, arrays and tensors. And what takes long to come: a tensor on
a GPU, however small, lies behind all that its stream still has to do. Each is copied before `draft` returns,
as snapshot.py has it for tensors, and a mark stands in its place until the publisher's thread fills it in.
"""

import secrets
from collections.abc import Callable
from typing import Any

from rankcast.gpu_worker.forms import LONGEST_SIDE
from rankcast.gpu_worker.snapshot import Snapshots, is_copyable, is_far

#: What is larger is copied much quicker than it is encoded.
HELD_PIXELS, HELD_BYTES = 64 * 64, 64 * 1024
#: Pinned memory comes in pages: a number takes one as well.
PAGE_BYTES = 4096
#: Stands in a text where a held value is to come; nobody else knows it.
_MARK = secrets.token_hex(16)


class Held:
    """Copies of such values, in order of the text; of so many bytes at most."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._copies: list[Any] = []
        self._snapshots = Snapshots()
        #: Bytes in memory, about.
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._copies)

    # Each returns what stands in the text; None for a value that has to be encoded at once.

    def image(self, image: Any) -> str | None:
        pixels = image.width * image.height
        is_large = pixels > HELD_PIXELS and max(image.size) <= LONGEST_SIDE
        return self._hold(image.copy, pixels * len(image.getbands())) if is_large else None

    def array(self, array: Any) -> str | None:
        is_large = array.nbytes > HELD_BYTES and not array.dtype.hasobject
        return self._hold(array.copy, array.nbytes) if is_large else None

    def tensor(self, tensor: Any) -> str | None:
        size = tensor.numel() * tensor.element_size()
        if not is_copyable(tensor) or not (is_far(tensor) or size > HELD_BYTES):
            return None
        return self._hold(lambda: self._snapshots.take(tensor), max(size, PAGE_BYTES))

    def _hold(self, copy: Callable[[], Any], size: int) -> str | None:
        if self.size + size > self._max_bytes:
            return None
        self._copies.append(copy())
        self.size += size
        return _MARK

    def end(self) -> None:
        """No more are held."""
        self._snapshots.end()

    def has_come(self) -> bool:
        """Whether nothing is to be waited for."""
        return self._snapshots.have_come()

    def filled_in(self, text: bytes, encode: Callable[[Any], bytes]) -> bytes:
        """The text with each value in its place, as `encode` has it. RuntimeError where a GPU failed."""
        self._snapshots.wait()
        parts = []
        for copy in self._copies:
            before, _, text = text.partition(f'"{_MARK}"'.encode())
            parts += [before, encode(copy)]
        return b"".join([*parts, text])
