"""Tokens of streams: one job, one purpose, for a while, and no longer than their key."""

from dataclasses import replace
from pathlib import Path

import pytest
from itsdangerous import URLSafeSerializer

from rankcast.web import tokens
from rankcast.web.keyring import ApiKey, Keyring, Scope, draw, editing

JOB = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def key(path: Path) -> ApiKey:
    made, _ = draw("page", {Scope.READ})
    with editing(path) as keys:
        keys.append(made)
    return made


@pytest.fixture
def keyring(path: Path, key: ApiKey) -> Keyring:
    return Keyring(path)


def test_a_token_is_good_for_its_job_until_its_time_is_over(key: ApiKey, keyring: Keyring):
    token = tokens.sign(key, JOB, 1000.0)
    assert tokens.key_of(token, keyring, job_id=JOB, now_s=999.0) == key
    assert tokens.key_of(token, keyring, job_id=JOB, now_s=1000.0) is None
    assert tokens.key_of(token, keyring, job_id=JOB[::-1], now_s=999.0) is None


def test_every_process_with_the_file_knows_the_tokens_of_the_others(key: ApiKey, path: Path):
    """They share nothing else, and their clocks may differ by a little."""
    token = tokens.sign(key, JOB, 1000.0)
    assert tokens.key_of(token, Keyring(path), job_id=JOB, now_s=-5.0) == key


def test_a_token_dies_with_its_key(key: ApiKey, path: Path, keyring: Keyring):
    token = tokens.sign(key, JOB, 1000.0)
    with editing(path) as keys:
        keys[:] = [replace(key, revoked="2026-01-31T12:00:00Z")]
    assert tokens.key_of(token, keyring, job_id=JOB, now_s=1.0) is None


def test_a_token_goes_into_a_url_as_it_is_and_tells_no_secret(key: ApiKey):
    """Not even the hash: with that, everybody could sign."""
    token = tokens.sign(key, JOB, 1000.0)
    assert token.replace("-", "").replace("_", "").replace(".", "").isalnum()
    assert key.hash not in token


def test_what_is_no_token_of_this_key_opens_nothing(key: ApiKey, keyring: Keyring):
    """Changed, cut, empty, of another key or of another purpose."""
    token = tokens.sign(key, JOB, 1000.0)
    other, _ = draw("other", {Scope.ADMIN})
    forged = f"{key.id}.{tokens.sign(other, JOB, 1000.0).partition('.')[2]}"
    purpose = f"{key.id}.{URLSafeSerializer(key.hash, salt='download').dumps([JOB, 1000])}"
    bad = [
        "",
        ".",
        key.id,
        f"{key.id}.",
        token[:-1],
        token + "A",
        token.upper(),
        forged,
        purpose,
        "é.ü",
        "a.b.c.d",
    ]
    bad += [tokens.sign(other, JOB, 1000.0)]
    assert [tokens.key_of(each, keyring, job_id=JOB, now_s=1.0) for each in bad] == [None] * len(bad)
