"""No key and no token is written to a log, whoever writes the line."""

import logging
import re

#: A key by its form, wherever it stands; a token by its name in a query or a header, and by its length.
_SECRETS = re.compile(r"(rk_[0-9a-z]+_)[0-9A-Za-z]+|(\btoken=|\bBearer (?!rk_))[\w.%-]{20,}", re.ASCII)


def redacted(text: str) -> str:
    """The text without the part of each key and token that must not be known."""
    return _SECRETS.sub(lambda match: f"{match[1] or match[2]}[redacted]", text)


class Redacting(logging.Formatter):
    """Another formatter's lines, tracebacks included, without secrets."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return redacted(self._inner.format(record))
