"""Server-sent events out of bytes, as they come in (HTML 9.2.5 and 9.2.6).

Pure, and on bytes: libraries that split text into lines also split at U+2028 and its like, which
are plain characters inside a JSON string. Lines end at `\\n` or `\\r\\n`; a lone `\\r`, which the
standard allows too and no server in use sends, does not end one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"


class Message(NamedTuple):
    """One dispatched event."""

    #: The last id seen so far; "" before the first. An event without its own keeps the one before.
    id: str
    #: The `event:` line; "" where there is none.
    kind: str
    #: The `data:` lines, joined by newlines.
    data: bytes


@dataclass(slots=True)
class Parser:
    """Feed it chunks, cut anywhere; it gives each event when its blank line has arrived.

    What is unfinished when the stream ends is dropped, as the standard asks: the event comes
    again after a resume.
    """

    #: How long the server last asked clients to wait before they come back, in ms. It may be the
    #: last thing that a server says.
    retry_ms: int | None = None
    _rest: list[bytes] = field(default_factory=list)
    _is_first_line: bool = True
    _id: str = ""
    _kind: str = ""
    _data: list[bytes] = field(default_factory=list)

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """The events that `chunk` completes, in order."""
        if b"\n" not in chunk:
            # A large event comes in many chunks: kept apart, so each byte is copied once.
            self._rest.append(chunk)
            return
        *lines, rest = chunk.split(b"\n")
        lines[0] = b"".join([*self._rest, lines[0]])
        self._rest = [rest]
        for line in lines:
            message = self._line(line.removesuffix(b"\r"))
            if message is not None:
                yield message

    def _line(self, line: bytes) -> Message | None:
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        self._field(name, value.removeprefix(b" "))
        return None

    def _field(self, name: bytes, value: bytes) -> None:
        if name == b"data":
            self._data.append(value)
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"event":
            self._kind = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            self.retry_ms = int(value)

    def _dispatch(self) -> Message | None:
        kind, data = self._kind, self._data
        self._kind, self._data = "", []
        return Message(self._id, kind, b"\n".join(data)) if data else None
