"""Step 5. What a rank writes to its stdout and stderr, cut into lines."""

import re

#: Bytes of a line; a longer one becomes several. As many characters are what the job's log keeps.
MAX_LINE_BYTES = 4096
#: A progress bar ends its lines with carriage returns alone; one at the very end may be half of CR LF.
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


class Lines:
    """Bytes in, lines out. What is no UTF-8 is replaced."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now."""
        data = self._rest + data
        pieces: list[bytes] = []
        at = 0
        for end in _LINE_END.finditer(data):
            # A progress bar that begins its lines with a carriage return leaves nothing before it.
            if end[0] != b"\r" or end.start() > at:
                pieces += _pieces(data[at : end.start()])
            at = end.end()
        *full, self._rest = _pieces(data[at:])
        return [piece.decode(errors="replace") for piece in pieces + full]

    def end(self) -> list[str]:
        """The last line, if it had no end."""
        rest, self._rest = self._rest.rstrip(b"\r"), b""
        return [piece.decode(errors="replace") for piece in _pieces(rest)] if rest else []


def _pieces(line: bytes) -> list[bytes]:
    """A line in parts of MAX_LINE_BYTES, never cut inside a character."""
    pieces = []
    while len(line) > MAX_LINE_BYTES:
        cut = MAX_LINE_BYTES
        while cut > MAX_LINE_BYTES - 4 and line[cut] & 0xC0 == 0x80:
            cut -= 1
        pieces.append(line[:cut])
        line = line[cut:]
    return [*pieces, line]
