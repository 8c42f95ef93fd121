"""The file of API keys: what it holds, who may read it, and that it is believed at once."""

import hashlib
import hmac
import json
import os
import threading
from pathlib import Path

import pytest

from rankcast.web.keyring import (
    ApiKey,
    KeyFileUnusable,
    Keyring,
    Scope,
    chosen,
    draw,
    draw_starter_key,
    editing,
    hash_of,
    read_keys,
    starter_key,
)

WRITE_AND_READ = frozenset({Scope.SUBMIT, Scope.READ})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def created(path: Path, name: str = "ci", scopes: frozenset[Scope] = WRITE_AND_READ) -> tuple[ApiKey, str]:
    """A new key in the file, and its text."""
    key, text = draw(name, scopes)
    with editing(path) as keys:
        keys.append(key)
    return key, text


def revoke(path: Path, key_id: str) -> None:
    with editing(path) as keys:
        keys[:] = [
            ApiKey(**{**_fields(key), "revoked": "2026-01-31T12:00:00Z"}) if key.id == key_id else key
            for key in keys
        ]


def _fields(key: ApiKey) -> dict[str, object]:
    return {name: getattr(key, name) for name in key.__slots__}


def test_a_key_is_found_by_its_text_and_by_its_id(path: Path):
    """And by nothing that is nearly it."""
    key, text = created(path)
    other, _ = created(path, "other")
    ring = Keyring(path)
    assert ring.find(text) == ring.by_id(key.id) == key
    prefix, key_id, secret = text.split("_")
    nearly = [
        "",
        "rk",
        f"rk_{key_id}",
        f"rk_{key_id}_",
        f"{prefix}_{key_id}_{secret[:-1]}",
        text + "0",
        text.upper(),
    ]
    nearly += [
        f"rk_{other.id}_{secret}",
        f"xx_{key_id}_{secret}",
        f"{key_id}_{secret}",
        f" {text}",
        key.hash,
        "é_ü_ß",
    ]
    assert [ring.find(each) for each in nearly] == [None] * len(nearly)


def test_a_key_is_256_random_bits_and_no_two_are_alike():
    (one, first), (two, second) = draw("a", WRITE_AND_READ), draw("a", WRITE_AND_READ)
    assert one.id != two.id
    assert first.split("_")[2] != second.split("_")[2]
    assert len(bytes.fromhex(first.split("_")[2])) == 32


def test_the_file_has_hashes_alone_and_is_its_owners_alone(path: Path):
    """One JSON object a line; neither the key nor its secret half stands anywhere in the folder."""
    old_mask = os.umask(0)
    try:
        key, text = created(path)
    finally:
        os.umask(old_mask)
    [line] = path.read_text().splitlines()
    assert json.loads(line) == {
        "id": key.id,
        "name": "ci",
        "hash": hashlib.sha256(text.encode()).hexdigest(),
        "scopes": ["read", "submit"],
        "created": key.created,
        "revoked": None,
    }
    for each in path.parent.iterdir():
        assert text.split("_")[2] not in each.read_text()
        assert each.stat().st_mode & 0o777 == 0o600
    assert {each.name for each in path.parent.iterdir()} == {"keys", "keys.lock"}


def test_secrets_are_compared_in_constant_time(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each time a known id is shown: how long it takes must not tell how much of it was right."""
    key, text = created(path)
    compared: list[tuple[str, str]] = []
    real = hmac.compare_digest

    def compare(one: str, two: str) -> bool:
        compared.append((one, two))
        return real(one, two)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    ring = Keyring(path)
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
    assert (ring.find(text), ring.find(wrong)) == (key, None)
    assert compared == [(key.hash, key.hash), (hash_of(wrong), key.hash)]


def test_what_is_created_or_revoked_counts_at_once_for_who_has_the_file_open(path: Path):
    """No restart, no waiting: the next look finds another file."""
    _, first = created(path)
    ring = Keyring(path)
    assert ring.find(first) is not None
    late, text = created(path, "late")
    assert ring.find(text) == late
    revoke(path, late.id)
    assert (ring.find(text), ring.by_id(late.id)) == (None, None)
    assert ring.find(first) is not None


def test_the_file_is_read_once_while_it_stays_the_same(path: Path, monkeypatch: pytest.MonkeyPatch):
    _, text = created(path)
    ring = Keyring(path)
    ring.find(text)
    opened: list[object] = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda *args, **named: opened.append(args) or real(*args, **named))
    assert ring.find(text) is not None
    assert opened == []


def test_a_revoked_key_stays_in_the_file(path: Path):
    """Its jobs still have an owner, and people can see what became of it."""
    key, _ = created(path)
    revoke(path, key.id)
    [kept] = read_keys(path)
    assert (kept.id, kept.revoked) == (key.id, "2026-01-31T12:00:00Z")


GOOD = {
    "id": "a1",
    "name": "n",
    "hash": "h",
    "scopes": ["read"],
    "created": "2026-01-31T12:00:00Z",
    "revoked": None,
}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "line 1"),
        ("\n[]\n", "line 2"),
        (json.dumps(GOOD) + "\n" + json.dumps({**GOOD, "id": 7}), "line 2"),
        (json.dumps({**GOOD, "scopes": ["write"]}), "write"),
        (json.dumps({**GOOD, "scopes": None}), "line 1"),
        (json.dumps({**GOOD, "revoked": True}), "line 1"),
        (json.dumps({**GOOD, "expires": "2026-01-01"}), "nothing else"),
        (json.dumps({name: GOOD[name] for name in GOOD if name != "hash"}), "hash"),
        (json.dumps(GOOD) + "\n" + json.dumps(GOOD), "twice"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_broken_file_lets_nobody_in_and_says_where(path: Path, text: str | bytes, told: str):
    """Half of it cannot be trusted: a key that is missing may be one that was revoked."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    for use in (
        lambda: read_keys(path),
        lambda: Keyring(path).find("rk_a1_b"),
        lambda: Keyring(path).by_id("a1"),
    ):
        with pytest.raises(KeyFileUnusable, match=told) as caught:
            use()
        assert str(path) in str(caught.value)


def test_a_file_that_breaks_lets_nobody_in_until_it_is_whole(path: Path):
    """What was known of it before does not count."""
    _, text = created(path)
    ring, good = Keyring(path), path.read_text()
    assert ring.find(text) is not None
    path.write_text(good + "{")
    with pytest.raises(KeyFileUnusable):
        ring.find(text)
    path.write_text(good)
    assert ring.find(text) is not None
    path.unlink()
    with pytest.raises(KeyFileUnusable, match="rankcast keys create"):
        ring.find(text)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_file_that_others_may_read_or_write_is_refused(path: Path, mode: int):
    """Also when it was opened up under a running server. Its hashes sign the tokens of streams."""
    _, text = created(path)
    ring = Keyring(path)
    assert ring.find(text) is not None
    path.chmod(mode)
    with pytest.raises(KeyFileUnusable, match=f"chmod 600 {path}"):
        ring.find(text)


def test_an_empty_file_is_one_without_keys_and_not_without_a_lock(path: Path):
    """Whoever wanted keys does not want an open server."""
    path.touch(0o600)
    assert Keyring(path).find("rk_a1_b") is None
    assert read_keys(path) == []


def test_many_who_edit_at_once_lose_nothing(path: Path):
    """Each waits for the other's whole file."""
    threads = [threading.Thread(target=created, args=[path, f"k{number}"]) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in read_keys(path)} == {f"k{number}" for number in range(20)}


def test_an_edit_that_fails_changes_nothing(path: Path):
    created(path)
    before = path.read_text()

    def fail() -> None:
        with editing(path) as keys:
            keys.clear()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == before


def test_a_link_to_the_file_stays_a_link(path: Path):
    """What is replaced is what it names."""
    created(path)
    link = path.with_name("link")
    link.symlink_to(path)
    _, text = created(link, "late")
    assert link.is_symlink()
    assert Keyring(path).find(text) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_file_stays_its_owners_when_root_edits_it(path: Path):
    """Else the server that reads it could not any more."""
    created(path)
    os.chown(path, 12345, 12346)
    created(path, "late")
    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (12345, 12346, 0o600)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(KeyFileUnusable, match="No such file"):
        created(tmp_path / "nowhere" / "keys")


def test_an_admin_may_everything_and_others_what_their_scopes_say():
    """No scope brings another along."""
    may = {
        scope: {other for other in Scope if draw("n", {scope})[0].may(other)}
        for scope in (Scope.SUBMIT, Scope.READ, Scope.ADMIN)
    }
    assert may == {Scope.SUBMIT: {Scope.SUBMIT}, Scope.READ: {Scope.READ}, Scope.ADMIN: set(Scope)}


def test_who_starts_a_server_has_a_key_that_no_file_has(path: Path):
    """An admin's, for as long as that server lives."""
    created(path)
    text = draw_starter_key()
    ring = Keyring(path, standing=starter_key(hash_of(text)))
    found = ring.find(text)
    assert found is not None
    assert found.may(Scope.ADMIN)
    assert Keyring(path).find(text) is None
    assert Keyring(path, standing=starter_key(hash_of(draw_starter_key()))).find(text) is None


def test_a_key_is_chosen_by_its_id_or_by_the_name_that_a_live_one_has(path: Path):
    """A name may be given again once its key was revoked."""
    old, _ = created(path)
    revoke(path, old.id)
    new, _ = created(path)
    keys = read_keys(path)
    assert [chosen(keys, wanted) for wanted in (old.id, new.id, "ci", "nobody")] == [
        keys[0],
        keys[1],
        keys[1],
        None,
    ]
    assert chosen(keys[:1], "ci") == keys[0]
