"""What the web tier reads from the environment, once, at start-up."""

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rankcast.tasks.settings import Settings
from rankcast.web.exposure import origin_of


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """Bounds of this tier; sizes in bytes, times in seconds."""

    shared: Settings = field(default_factory=Settings)
    #: The folder that all hosts see, with what jobs stored; None: nothing of that can be fetched here.
    folder: Path | None = None
    #: Largest request body.
    max_body_bytes: int = 8 * 1024 * 1024
    #: Largest file that may be uploaded, and how long it is kept.
    max_file_bytes: int = 1024 * 1024 * 1024
    file_ttl_s: float = 24 * 3600.0
    #: Silence after which a stream gets a comment line. HTML 9.2.7 says "every 15 seconds or so";
    #: common proxies cut an idle connection at 60.
    keepalive_s: float = 15.0
    #: A stream that can be resumed ends after about so long, and its viewer comes back: so viewers
    #: spread again over the processes that there are now. Infinite: never.
    stream_max_s: float = 600.0
    #: A client that takes nothing for so long while there is something for it is cut off.
    send_timeout_s: float = 60.0
    #: Most streams with ids that one process has at a time.
    max_streams: int = 10_000
    #: The same of one API key; None: as many as all.
    max_streams_per_key: int | None = None
    #: Under gunicorn with gevent, write to the sockets of streams without a greenlet each.
    takes_over: bool = True
    #: The task of `POST /stream`; None: the only one registered.
    default_task: str | None = None
    #: The file of API keys; None: nobody is asked for one.
    keys: Path | None = None
    #: Hash of the key that who started this server keeps for itself, beside the file.
    starter_key_hash: str | None = None
    #: Without keys: others than this machine are meant to reach the server.
    is_open: bool = False
    #: Origins whose pages may use this server, such as `https://example.com`.
    cors: frozenset[str] = frozenset()
    #: How long the token in the URL of a stream or a file is good for.
    stream_token_s: float = 3600.0
    #: Where clients reach this server, such as `https://example.com/rankcast`; None: where each one did.
    public_url: str | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "WebSettings":
        """Read RANKCAST_SHARED, RANKCAST_MAX_BODY_BYTES, RANKCAST_MAX_FILE_BYTES, RANKCAST_FILE_TTL_S,
        RANKCAST_KEEPALIVE_S, RANKCAST_STREAM_MAX_S (0: never), RANKCAST_SEND_TIMEOUT_S, RANKCAST_MAX_STREAMS,
        RANKCAST_MAX_STREAMS_PER_KEY, RANKCAST_TAKE_OVER (0: no), RANKCAST_DEFAULT_TASK, RANKCAST_KEYS,
        RANKCAST_STARTER_KEY_HASH,
        RANKCAST_OPEN (1: yes), RANKCAST_CORS (origins, with spaces between), RANKCAST_STREAM_TOKEN_S
        and RANKCAST_PUBLIC_URL.

        ValueError, with the variable's name, for what is no number above 0, no origin, or no URL.
        """
        default = cls()
        return cls(
            shared=Settings.from_env(env),
            folder=Path(env["RANKCAST_SHARED"]).absolute() if env.get("RANKCAST_SHARED") else None,
            max_body_bytes=int(_positive(env, "RANKCAST_MAX_BODY_BYTES", default.max_body_bytes)),
            max_file_bytes=int(_positive(env, "RANKCAST_MAX_FILE_BYTES", default.max_file_bytes)),
            file_ttl_s=_positive(env, "RANKCAST_FILE_TTL_S", default.file_ttl_s),
            keepalive_s=_positive(env, "RANKCAST_KEEPALIVE_S", default.keepalive_s),
            stream_max_s=_positive_or_off(env, "RANKCAST_STREAM_MAX_S", default.stream_max_s),
            send_timeout_s=_positive(env, "RANKCAST_SEND_TIMEOUT_S", default.send_timeout_s),
            default_task=env.get("RANKCAST_DEFAULT_TASK") or None,
            keys=Path(env["RANKCAST_KEYS"]) if env.get("RANKCAST_KEYS") else None,
            starter_key_hash=env.get("RANKCAST_STARTER_KEY_HASH") or None,
            is_open=env.get("RANKCAST_OPEN") == "1",
            max_streams=int(_positive(env, "RANKCAST_MAX_STREAMS", default.max_streams)),
            max_streams_per_key=int(_positive(env, "RANKCAST_MAX_STREAMS_PER_KEY", 0)) or None,
            takes_over=env.get("RANKCAST_TAKE_OVER", "1") != "0",
            cors=frozenset(_origins(env.get("RANKCAST_CORS", ""))),
            stream_token_s=_positive(env, "RANKCAST_STREAM_TOKEN_S", default.stream_token_s),
            public_url=_base_url(env, "RANKCAST_PUBLIC_URL"),
        )


def _origins(text: str) -> Iterator[str]:
    for word in text.split():
        try:
            yield origin_of(word)
        except ValueError as error:
            raise ValueError(f"RANKCAST_CORS: {error}") from None


def _base_url(env: Mapping[str, str], name: str) -> str | None:
    text = env.get(name, "").rstrip("/")
    if text and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
        raise ValueError(f"{name} must look like https://example.com, maybe with a path, not {text!r}")
    return text or None


def _positive_or_off(env: Mapping[str, str], name: str, default: float) -> float:
    """Infinity for 0, which is the usual way to say "no limit"."""
    return math.inf if env.get(name) == "0" else _positive(env, name, default)


def _positive(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a number above 0, not {text!r}")
    return value
