"""What `POST /files` is sent: a file, piece by piece, however large it is."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from rankcast.follow import Patience

#: Read at once, and all that is in memory.
CHUNK_BYTES = 256 * 1024

#: A file by its path, its bytes themselves, or a file that is open for reading.
Source = str | os.PathLike[str] | bytes | IO[bytes]


class Upload(NamedTuple):
    chunks: Iterator[bytes]
    file_name: str
    #: None where only its end tells.
    file_size: int | None

    def headers(self) -> dict[str, str]:
        size = {} if self.file_size is None else {"Content-Length": str(self.file_size)}
        return {"Content-Type": "application/octet-stream", **size}


@contextmanager
def opened(source: Source, patience: Patience) -> Iterator[Upload]:
    """The source, to be read once. OSError for a path that cannot be opened.

    Reading raises TimeoutError once the deadline is over.
    """
    if isinstance(source, bytes):
        yield Upload(_chunks(io.BytesIO(source), patience), "file", len(source))
    elif isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            yield Upload(_chunks(file, patience), Path(source).name, os.fstat(file.fileno()).st_size)
    else:
        name = getattr(source, "name", None)
        yield Upload(_chunks(source, patience), Path(name).name if isinstance(name, str) else "file", None)


def _chunks(file: IO[bytes], patience: Patience) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        patience.left_s()
        yield chunk
