"""Stream tokens: who has one may watch one job for a while, and nothing else.  Pure.

A browser's EventSource sends no headers, so the URL of a stream carries the right to watch it. It is
signed with what the file of keys has of the key that asked for it: every web process with that file
knows its own tokens and those of the others, and they die with the key.
"""

import hashlib

from itsdangerous import BadData, URLSafeSerializer

from rankcast.web.keyring import ApiKey, Keyring


def sign(key: ApiKey, job_id: str, until_s: float) -> str:
    """A token for the stream of that job, good until `until_s`, in seconds of Unix time."""
    return f"{key.id}.{_serializer(key).dumps([job_id, round(until_s, 3)])}"


def key_of(token: str, keyring: Keyring, *, job_id: str, now_s: float) -> ApiKey | None:
    """The key that signed the token; None if it is not for that job, too old, made up, or of a key that
    was revoked. KeyFileUnusable."""
    key_id, _, signed = token.partition(".")
    key = keyring.by_id(key_id)
    if key is None:
        return None
    try:
        signed_job_id, until_s = _serializer(key).loads(signed)
    except BadData:
        return None
    return key if signed_job_id == job_id and now_s < until_s else None


def _serializer(key: ApiKey) -> URLSafeSerializer:
    # The salt is the purpose: what is signed for another one is no token of a stream.
    return URLSafeSerializer(
        key.hash,
        salt="rankcast stream",
        signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
    )
