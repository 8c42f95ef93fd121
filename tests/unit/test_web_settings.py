"""What the web tier reads from the environment."""

from pathlib import Path

import pytest

from rankcast.web.settings import WebSettings


def test_an_empty_environment_gives_the_defaults() -> None:
    """8 MiB, 15 s, 10 minutes, one minute, and no default task."""
    settings = WebSettings.from_env({})
    assert settings == WebSettings()
    assert (settings.max_body_bytes, settings.keepalive_s, settings.default_task) == (8 << 20, 15.0, None)
    assert (settings.folder, settings.max_file_bytes, settings.file_ttl_s) == (None, 1 << 30, 86400.0)
    assert (settings.stream_max_s, settings.send_timeout_s) == (600.0, 60.0)
    assert (settings.keys, settings.is_open, settings.cors) == (None, False, frozenset())
    assert settings.stream_token_s == 3600.0


def test_every_setting_can_be_given() -> None:
    settings = WebSettings.from_env(
        {
            "RANKCAST_REDIS_URL": "redis://elsewhere:1/2",
            "RANKCAST_MAX_BODY_BYTES": "1000",
            "RANKCAST_SHARED": "/mnt/all",
            "RANKCAST_MAX_FILE_BYTES": "2000",
            "RANKCAST_FILE_TTL_S": "60",
            "RANKCAST_KEEPALIVE_S": "0.5",
            "RANKCAST_STREAM_MAX_S": "30",
            "RANKCAST_SEND_TIMEOUT_S": "2.5",
            "RANKCAST_DEFAULT_TASK": "acme/steps",
            "RANKCAST_KEYS": "/etc/rankcast/keys",
            "RANKCAST_STARTER_KEY_HASH": "00ff",
            "RANKCAST_OPEN": "1",
            "RANKCAST_CORS": "https://a.example  http://localhost:5173",
            "RANKCAST_STREAM_TOKEN_S": "60",
            "RANKCAST_PUBLIC_URL": "https://example.com/rankcast/",
        }
    )
    assert settings.shared.redis_url == settings.shared.broker_url == "redis://elsewhere:1/2"
    assert (settings.max_body_bytes, settings.keepalive_s) == (1000, 0.5)
    assert (settings.folder, settings.max_file_bytes, settings.file_ttl_s) == (Path("/mnt/all"), 2000, 60.0)
    assert (settings.stream_max_s, settings.send_timeout_s) == (30.0, 2.5)
    assert settings.default_task == "acme/steps"
    assert (settings.keys, settings.starter_key_hash) == (Path("/etc/rankcast/keys"), "00ff")
    assert (settings.is_open, settings.stream_token_s) == (True, 60.0)
    assert settings.cors == {"https://a.example", "http://localhost:5173"}
    assert settings.public_url == "https://example.com/rankcast"


def test_streams_without_a_longest_time_are_never_sent_away() -> None:
    assert WebSettings.from_env({"RANKCAST_STREAM_MAX_S": "0"}).stream_max_s == float("inf")


@pytest.mark.parametrize(
    "name",
    [
        "RANKCAST_MAX_BODY_BYTES",
        "RANKCAST_MAX_FILE_BYTES",
        "RANKCAST_FILE_TTL_S",
        "RANKCAST_KEEPALIVE_S",
        "RANKCAST_SEND_TIMEOUT_S",
    ],
)
@pytest.mark.parametrize("value", ["0", "-1", "much", "nan", "inf"])
def test_what_is_no_number_above_0_is_refused_by_name(name: str, value: str) -> None:
    """At start-up, where somebody reads it."""
    with pytest.raises(ValueError, match=name):
        WebSettings.from_env({name: value})


@pytest.mark.parametrize("value", ["", "0", "true"])
def test_only_1_opens_a_server(value: str) -> None:
    """A slip must not let everybody in, and what compose leaves empty is not there."""
    settings = WebSettings.from_env({"RANKCAST_OPEN": value, "RANKCAST_KEYS": "", "RANKCAST_CORS": ""})
    assert settings == WebSettings()


def test_what_is_no_origin_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"RANKCAST_CORS: '\*'"):
        WebSettings.from_env({"RANKCAST_CORS": "https://a.example *"})


@pytest.mark.parametrize(
    "value", ["example.com", "ftp://example.com", "https://", "https://a b", "https://a?b"]
)
def test_what_is_no_url_is_refused_by_name(value: str) -> None:
    with pytest.raises(ValueError, match="RANKCAST_PUBLIC_URL"):
        WebSettings.from_env({"RANKCAST_PUBLIC_URL": value})
