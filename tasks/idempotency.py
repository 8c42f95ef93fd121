"""Idempotency keys: the same submit, sent twice, is one job.  Pure.

A submitter who lost the answer cannot know whether the job stands. It sends the same submit again
under the same key, and gets the job that the first one made. create.lua keeps key and job together:
the key lives as long as its job does.
"""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from rankcast.tasks.job import JobOptions

#: Of a key, in characters.
MAX_LENGTH = 255


def is_well_formed(value: str) -> bool:
    """Whether `value` may be a key: 1 to 255 printable ASCII characters."""
    return 0 < len(value) <= MAX_LENGTH and value.isascii() and value.isprintable()


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A key with its scope: the same value from somebody else, or at another route, is another key."""

    value: str
    #: Such as `POST /jobs`.
    route: str
    #: Who asks; empty where nobody has to say.
    api_key: str = ""

    @property
    def digest(self) -> str:
        """What Redis knows it by: 64 hex digits, whatever was sent, and no secret to be read there."""
        return _sha256([self.api_key, self.route, self.value])


def body_digest(task: str, input: bytes, options: JobOptions) -> str:
    """What was asked for, as 64 hex digits; `input` is JSON text.

    How it was written does not matter: the order of members, white space, a default spelt out.
    """
    return _sha256([task, orjson.loads(input), asdict(options)])


def _sha256(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
