"""The body of a direct stream, without a server."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from rankcast.web import direct, sse


def failing() -> Iterator[bytes]:
    yield b'{"step":1}'
    raise direct._NoOutput({"kind": "user"})


def test_a_client_has_time_to_take_the_error_before_it_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser drops what its page has not read when the line breaks."""
    happened: list[Any] = []
    monkeypatch.setattr(direct, "time", SimpleNamespace(sleep=happened.append))
    tie = SimpleNamespace(loosen=lambda: happened.append("loosened"))
    frames = direct._frames(failing(), tie, bytes)  # type: ignore[arg-type]
    happened += [next(frames) for _ in range(3)]
    with pytest.raises(ConnectionResetError):
        next(frames)
    assert happened == [
        "loosened",
        sse.KEEPALIVE_WITHOUT_IDS,
        b'data: {"step":1}\n\n',
        b'data: {"error":{"kind":"user"}}\n\n',
        direct.LINGER_S,
    ]
