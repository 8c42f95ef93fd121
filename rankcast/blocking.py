"""How the sync client runs what the async one is made of: coroutines over I/O that blocks.

The rules are written once, as coroutines. Over blocking I/O every `await` has its answer as soon as it
is reached, so the first step of such a coroutine is also its last: no event loop, no thread.
"""

from collections.abc import Coroutine, Generator
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Items(Protocol[T_co]):
    """An asynchronous iterator that can be closed; every async generator is one."""

    def __anext__(self) -> Coroutine[Any, Any, T_co]: ...
    def aclose(self) -> Coroutine[Any, Any, None]: ...


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns. RuntimeError for one that waits for an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    coroutine.close()
    raise RuntimeError("a coroutine over blocking I/O must not wait")


def iterate(items: Items[T]) -> Generator[T, None, None]:
    """The items; closing this generator, or dropping it, closes theirs."""
    try:
        while True:
            try:
                item = run(items.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        run(items.aclose())
