"""fal's storage where there are keys: the right to upload is in a token, which dies with its key."""

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import redis as redis_py
from api_keys import Holder, give, revoke
from fal_uploads import CDN, INITIATE, TOKEN, initiated, left_in, refused
from web_tier import WebTier, web_tier

from rankcast.web import tokens
from rankcast.web.keyring import read_keys


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deployment") / "keys"


@pytest.fixture(scope="module")
def alice(keys: Path) -> Holder:
    return give(keys, "alice")


@pytest.fixture(scope="module")
def bob(keys: Path) -> Holder:
    return give(keys, "bob")


@pytest.fixture(scope="module")
def keyed_tier(valkey_url: str, keys: Path, alice: Holder, bob: Holder, shared: Path) -> Iterator[WebTier]:
    with web_tier(valkey_url, RANKCAST_SHARED=str(shared), RANKCAST_KEYS=str(keys)) as tier:
        yield tier


@pytest.fixture
def keyed(keyed_tier: WebTier, redis: redis_py.Redis) -> Iterator[httpx.Client]:
    """A client that shows no key by itself."""
    with httpx.Client(base_url=keyed_tier.url, timeout=60) as client:
        yield client


def bearer(http: httpx.Client, holder: Holder) -> dict[str, str]:
    told = http.post(TOKEN, json={}, headers=holder.headers).json()
    return {"Authorization": f"{told['token_type']} {told['token']}"}


def test_the_right_to_upload_is_in_a_token(keyed: httpx.Client, alice: Holder):
    """The file is its key's, and its URL opens it without a header."""
    sent = keyed.post(CDN, content=b"1", headers=bearer(keyed, alice)).json()["access_url"]
    upload_url, file_url = initiated(keyed, headers=alice.headers)
    assert httpx.put(upload_url, content=b"2").status_code == 200
    assert [httpx.get(url).content for url in (sent, file_url)] == [b"1", b"2"]
    for url in (sent, file_url):
        bare = url.partition("?")[0]
        assert httpx.get(bare).status_code == 401
        assert httpx.get(bare, headers=alice.headers).status_code == 200


def test_python_sends_the_key_along_with_the_token(keyed: httpx.Client, alice: Holder):
    upload_url, file_url = initiated(keyed, headers=alice.headers)
    assert httpx.put(upload_url, content=b"x", headers=alice.headers).status_code == 200
    assert httpx.get(file_url).content == b"x"


def test_no_other_token_uploads(keyed: httpx.Client, keys: Path, alice: Holder, shared: Path):
    """One of another file, of another purpose, one that is too old, or made up."""
    before = left_in(shared)
    upload_url, file_url = initiated(keyed, headers=alice.headers)
    other_url, _ = initiated(keyed, headers=alice.headers)
    bare, file_id = upload_url.partition("?")[0], urlsplit(upload_url).path.split("/")[3]
    [key] = [key for key in read_keys(keys) if key.id == alice.id]
    soon = time.time() + 60
    wrong = [
        "x",
        *(parse_qs(urlsplit(url).query)["token"][0] for url in (other_url, file_url)),
        bearer(keyed, alice)["Authorization"].removeprefix("Bearer "),
        tokens.sign(key, tokens.UPLOAD, file_id, time.time() - 1),
        tokens.sign(key, tokens.UPLOADS, file_id, soon),
        tokens.sign(key, tokens.FILE, file_id, soon),
    ]
    for token in wrong:
        assert refused(httpx.put(bare, params={"token": token}, content=b"x"), 401)
        headers = {"Authorization": f"Bearer {token}"}
        refused(httpx.put(bare, headers=headers, content=b"x"), 401)
        if token != wrong[3]:
            refused(keyed.post(CDN, headers=headers, content=b"x"), 401)
        refused(keyed.post(CDN, params={"token": token}, content=b"x"), 401)
        refused(keyed.post(INITIATE, headers=headers, json={}), 401)
    assert httpx.get(file_url).status_code == 404
    assert left_in(shared) == before


def test_a_token_of_uploads_may_nothing_else(keyed: httpx.Client, alice: Holder):
    headers = bearer(keyed, alice)
    url = keyed.post(CDN, content=b"x", headers=headers).json()["access_url"].partition("?")[0]
    assert keyed.get(url, headers=headers).status_code == 401
    assert keyed.post("/files", content=b"x", headers=headers).status_code == 401
    assert keyed.get("/jobs", headers=headers).status_code == 401


def test_tokens_die_with_their_key(keyed: httpx.Client, keys: Path):
    late = give(keys, "late")
    headers = bearer(keyed, late)
    upload_url, _ = initiated(keyed, headers=late.headers)
    url = keyed.post(CDN, content=b"x", headers=headers).json()["access_url"]
    revoke(keys, late)
    refused(httpx.put(upload_url, content=b"x"), 401)
    refused(keyed.post(CDN, content=b"x", headers=headers), 401)
    assert httpx.get(url).status_code == 401


def test_another_keys_file_does_not_exist(keyed: httpx.Client, alice: Holder, bob: Holder):
    url = keyed.post(CDN, content=b"x", headers=alice.headers).json()["access_url"].partition("?")[0]
    assert httpx.get(url, headers=bob.headers).status_code == 404
    upload_url, _ = initiated(keyed, headers=alice.headers)
    assert httpx.put(upload_url, content=b"x").status_code == 200
    # Not even by the same bytes under the same id.
    refused(httpx.put(upload_url.partition("?")[0], content=b"x", headers=bob.headers), 412)


def test_a_key_that_may_only_submit_uploads(keyed: httpx.Client, keys: Path):
    """What it gets is no URL that opens the file: that needs `read`."""
    submitter, reader = give(keys, "submitter", ["submit"]), give(keys, "reader", ["read"])
    url = keyed.post(CDN, content=b"x", headers=bearer(keyed, submitter)).json()["access_url"]
    assert "token" not in url
    for call in (TOKEN, INITIATE):
        assert "submit" in refused(keyed.post(call, json={}, headers=reader.headers), 403)
