"""What a body does to those who wait for its end."""

from werkzeug.test import EnvironBuilder

from rankcast.web.responses import stream_response


def body(**options):
    response = stream_response((b"x" for _ in range(2)), **options)
    return response(EnvironBuilder().get_environ(), lambda *_: None)


def test_whoever_waits_for_the_end_is_told_of_a_client_that_never_took_anything() -> None:
    told: list[str] = []
    parts = body(on_close=lambda: told.append("closed"))
    assert told == []
    parts.close()
    assert told == ["closed"]


def test_a_body_is_passed_on_chunk_by_chunk() -> None:
    assert list(body(on_close=lambda: None)) == list(body()) == [b"x", b"x"]
