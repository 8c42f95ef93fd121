"""Tokens: who has one may do one thing for a while, and nothing else.  Pure.

A browser's EventSource sends no headers, and neither does an `<img>`, so a URL carries the right to
what it names. It is signed with what the file of keys has of the key that asked for it: every web
process with that file knows its own tokens and those of the others, and they die with the key.
"""

import hashlib
from typing import NamedTuple

from itsdangerous import BadData, URLSafeSerializer

from rankcast.web.keyring import ApiKey, Keyring


class Purpose(NamedTuple):
    """What a token is good for: requests by `methods`, of what the route's parameter `subject` names, ''
    where that is nothing in particular. `is_sent`: it is in a header, not in the URL."""

    name: str
    subject: str
    methods: frozenset[str] = frozenset({"GET", "HEAD"})
    is_sent: bool = False


STREAM = Purpose("stream", "job_id")
#: All artifacts of one job.
ARTIFACTS = Purpose("artifact", "job_id")
#: One file that was uploaded.
FILE = Purpose("file", "file_id")
#: To send one file, and any number of files.
UPLOAD = Purpose("upload", "file_id", frozenset({"PUT"}))
UPLOADS = Purpose("uploads", "", frozenset({"POST"}), is_sent=True)


def sign(key: ApiKey, purpose: Purpose, subject: str, until_s: float) -> str:
    """A token for that, good until `until_s`, in seconds of Unix time."""
    return f"{key.id}.{_serializer(key, purpose).dumps([subject, round(until_s, 3)])}"


def key_of(token: str, keyring: Keyring, purpose: Purpose, subject: str, *, now_s: float) -> ApiKey | None:
    """The key that signed the token; None if it is not for that, too old, made up, or of a key that was
    revoked. KeyFileUnusable."""
    key_id, _, signed = token.partition(".")
    key = keyring.by_id(key_id)
    if key is None:
        return None
    try:
        signed_subject, until_s = _serializer(key, purpose).loads(signed)
    except BadData:
        return None
    return key if signed_subject == subject and now_s < until_s else None


def _serializer(key: ApiKey, purpose: Purpose) -> URLSafeSerializer:
    # The salt is the purpose: what is signed for another one is no token of this.
    return URLSafeSerializer(
        key.hash,
        salt=f"rankcast {purpose.name}",
        signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
    )
