"""When each API key was used last: what tells a forgotten key from one that is needed."""

from datetime import UTC, datetime
from typing import cast

import redis

from rankcast.tasks import keys
from rankcast.tasks.connect import Scripts, at_the_edge


class KeyUse:
    """In Redis, so that all web processes tell it. StoreUnavailable when Redis does not answer."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._scripts = Scripts(client)

    def note(self, key_id: str) -> None:
        """It was used now."""
        self._scripts.run("used", key_id)

    def all(self) -> dict[str, datetime]:
        """When each key was used last, in UTC; one that never was is not there."""
        with at_the_edge():
            found = cast("dict[bytes, bytes]", self._redis.hgetall(keys.KEYS_USED))
        return {key_id.decode(): datetime.fromtimestamp(int(ms) / 1000, UTC) for key_id, ms in found.items()}
