"""A server that is measured: from entering to leaving, and where its load goes."""

from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.load import Target


class Server(ABC):
    """Its logs and whatever else it needs lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._running = ExitStack()

    @abstractmethod
    def target(self) -> Target:
        """Streams that nobody has seen yet."""

    @abstractmethod
    def _start(self) -> None:
        """Enter into `_running` what is to end with it."""

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._running.close)
            self._start()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._running.close()
