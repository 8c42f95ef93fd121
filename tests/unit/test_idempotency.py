"""What an idempotency key may be, and what makes two submits the same."""

import pytest

from rankcast.tasks.idempotency import IdempotencyKey, body_digest, is_well_formed
from rankcast.tasks.job import JobOptions

KEY = IdempotencyKey(value="k", route="POST /jobs")


@pytest.mark.parametrize("value", ["k", "order 17/b", '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "k" * 255])
def test_any_printable_text_of_255_characters_is_a_key(value: str) -> None:
    assert is_well_formed(value)


@pytest.mark.parametrize("value", ["", "k" * 256, "a\tb", "a\x7fb", "schlüssel", "a\u2028b"])
def test_anything_else_is_none(value: str) -> None:
    assert not is_well_formed(value)


def test_a_key_is_another_in_another_scope() -> None:
    """And no text of one part can pass for text of the next."""
    others = [
        IdempotencyKey(value="k", route="POST /other"),
        IdempotencyKey(value="k", route="POST /jobs", api_key="a"),
        IdempotencyKey(value="j", route="POST /jobs"),
        IdempotencyKey(value="/jobsk", route="POST "),
    ]
    assert len({each.digest for each in (KEY, *others)}) == 5


def test_the_digest_shows_nothing_of_the_key() -> None:
    """It stands in the name of a Redis key."""
    assert "secret" not in IdempotencyKey(value="k", route="r", api_key="secret").digest


def test_a_body_is_what_is_asked_for_and_not_how_it_is_written() -> None:
    """The order of members does not matter, nor a default that is spelt out; everything else does."""
    body = body_digest("a/b", b'{"x":{"p":1,"q":2},"y":3}', JobOptions())
    assert body == body_digest("a/b", b'{"y": 3, "x": {"q": 2, "p": 1}}', JobOptions(priority=5))
    others = [
        body_digest("a/c", b'{"x":{"p":1,"q":2},"y":3}', JobOptions()),
        body_digest("a/b", b'{"x":{"p":1,"q":2},"y":4}', JobOptions()),
        body_digest("a/b", b'{"x":{"p":1,"q":2},"y":3}', JobOptions(priority=1)),
    ]
    assert body not in others
