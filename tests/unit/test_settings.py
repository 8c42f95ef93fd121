"""What both tiers read from the environment."""

import pytest

from rankcast.tasks.settings import Settings


def test_the_environment_says_where_redis_is_and_what_ended_jobs_may_keep() -> None:
    """Nothing said: one server for both, and half of its memory."""
    assert Settings.from_env({}) == Settings()
    assert Settings().max_ended_log_bytes is None
    settings = Settings.from_env(
        {"RANKCAST_REDIS_URL": "redis://a:1/2", "RANKCAST_MAX_ENDED_LOG_BYTES": "1000000"}
    )
    assert settings == Settings(
        redis_url="redis://a:1/2", broker_url="redis://a:1/2", max_ended_log_bytes=1_000_000
    )


@pytest.mark.parametrize("value", ["0", "-1", "1e9", "2 GiB", "much"])
def test_what_is_no_number_of_bytes_is_refused_by_name(value: str) -> None:
    """At start-up, where somebody reads it."""
    with pytest.raises(ValueError, match="RANKCAST_MAX_ENDED_LOG_BYTES"):
        Settings.from_env({"RANKCAST_MAX_ENDED_LOG_BYTES": value})
