"""Tokens: one thing, one purpose, for a while, and no longer than their key."""

from dataclasses import replace
from pathlib import Path

import pytest

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
    token = tokens.sign(key, tokens.STREAM, JOB, 1000.0)
    assert tokens.key_of(token, keyring, tokens.STREAM, JOB, now_s=999.0) == key
    assert tokens.key_of(token, keyring, tokens.STREAM, JOB, now_s=1000.0) is None
    assert tokens.key_of(token, keyring, tokens.STREAM, JOB[::-1], now_s=999.0) is None


def test_every_process_with_the_file_knows_the_tokens_of_the_others(key: ApiKey, path: Path):
    """They share nothing else, and their clocks may differ by a little."""
    token = tokens.sign(key, tokens.STREAM, JOB, 1000.0)
    assert tokens.key_of(token, Keyring(path), tokens.STREAM, JOB, now_s=-5.0) == key


def test_a_token_dies_with_its_key(key: ApiKey, path: Path, keyring: Keyring):
    token = tokens.sign(key, tokens.STREAM, JOB, 1000.0)
    with editing(path) as keys:
        keys[:] = [replace(key, revoked="2026-01-31T12:00:00Z")]
    assert tokens.key_of(token, keyring, tokens.STREAM, JOB, now_s=1.0) is None


def test_a_token_goes_into_a_url_as_it_is_and_tells_no_secret(key: ApiKey):
    """Not even the hash: with that, everybody could sign."""
    token = tokens.sign(key, tokens.STREAM, JOB, 1000.0)
    assert token.replace("-", "").replace("_", "").replace(".", "").isalnum()
    assert key.hash not in token


def test_what_is_no_token_of_this_key_opens_nothing(key: ApiKey, keyring: Keyring):
    """Changed, cut, empty, or of another key."""
    token = tokens.sign(key, tokens.STREAM, JOB, 1000.0)
    other, _ = draw("other", {Scope.ADMIN})
    forged = f"{key.id}.{tokens.sign(other, tokens.STREAM, JOB, 1000.0).partition('.')[2]}"
    bad = [
        "",
        ".",
        key.id,
        f"{key.id}.",
        token[:-1],
        token + "A",
        token.upper(),
        forged,
        "é.ü",
        "a.b.c.d",
    ]
    bad += [tokens.sign(other, tokens.STREAM, JOB, 1000.0)]
    assert [tokens.key_of(each, keyring, tokens.STREAM, JOB, now_s=1.0) for each in bad] == [None] * len(bad)


def test_a_token_for_one_purpose_is_none_for_another(key: ApiKey, keyring: Keyring):
    """Though it is of the same job."""
    purposes = (tokens.STREAM, tokens.ARTIFACTS, tokens.FILE)
    for signed in purposes:
        token = tokens.sign(key, signed, JOB, 1000.0)
        opens = [each for each in purposes if tokens.key_of(token, keyring, each, JOB, now_s=1.0) == key]
        assert opens == [signed]
