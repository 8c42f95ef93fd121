"""Logs: no key and no token is in them."""

import logging
import sys

import pytest

from rankcast.web import tokens
from rankcast.web.keyring import Scope, draw
from rankcast.web.redaction import Redacting, redacted

KEY, TEXT = draw("n", {Scope.READ})
TOKEN = tokens.sign(KEY, tokens.STREAM, "0" * 32, 1000.0)
SECRETS = (TEXT.split("_")[2], TOKEN)


@pytest.mark.parametrize(
    "line",
    [
        f'127.0.0.1 "GET /jobs/1/stream?token={TOKEN} HTTP/1.1" 200 "https://example.com/?token={TOKEN}"',
        f"GET /jobs/1/stream?from=now&token={TOKEN}&last_event_id=1-1",
        f"Invalid header: 'AUTHORIZATION: Key {TEXT}'",
        f"{{'authorization': 'Bearer {TEXT}'}}",
        f"{{'authorization': 'Bearer {TOKEN}'}}",
        f"?key={TEXT}",
        f"token={TOKEN}|-",
    ],
    ids=["access log", "path", "header", "headers", "token in a header", "key in a query", "end of a line"],
)
def test_a_secret_is_taken_out_of_a_line_wherever_it_stands(line: str):
    """And what stands around it stays."""
    clean = redacted(line)
    assert not any(secret in clean for secret in SECRETS)
    assert clean.count("[redacted]") == line.count(TOKEN) + line.count(TEXT)
    assert redacted(clean) == clean


def test_a_line_without_secrets_stays_as_it_is():
    line = 'GET /jobs/1/stream?from=now "rk_steps" token=3 rank_1'
    assert redacted(line) == line


def test_a_traceback_has_no_secret_either():
    """The lines of another formatter, whole."""
    try:
        raise ValueError(f"what is {TEXT}?")
    except ValueError:
        record = logging.LogRecord(
            "n", logging.ERROR, "f", 1, "at %s", (f"/x?token={TOKEN}",), sys.exc_info()
        )
    told = Redacting(logging.Formatter("%(levelname)s %(message)s")).format(record)
    assert told.startswith("ERROR at /x?token=[redacted]\nTraceback")
    assert f"ValueError: what is rk_{KEY.id}_[redacted]?" in told
