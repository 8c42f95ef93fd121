"""Step 6. How a rank tells what user code raised.  Pure."""

import re
import traceback
from pathlib import Path

from rankcast.gpu_worker.messages import Failed
from rankcast.gpu_worker.moments import Marks
from rankcast.tasks.disk import FULL
from rankcast.tasks.errors import EventTooLarge, InputNotFetched, InvalidInput, NotEncodable, StaleAttempt

MAX_MESSAGE, MAX_TRACEBACK = 4096, 32 * 1024

#: What gloo, NCCL and torch's store say when it was a peer that went away.
_BLAMES_A_PEER = re.compile(
    r"gloo/transport|connection (was )?(closed|reset) by (remote )?peer|ncclRemoteError"
    r"|remote process exited|failed to recv, got 0 bytes|TCPStore.*(broken pipe|recvValue)",
    re.IGNORECASE | re.DOTALL,
)
#: Their frames are ours, and say nothing to the user.
_OWN_FILES = frozenset(str(Path(__file__).with_name(f"{name}.py")) for name in ("rank", "distributed_worker"))

_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (InvalidInput, "invalid_input"),
    (InputNotFetched, "invalid_input"),
    (NotEncodable, "not_encodable"),
    (EventTooLarge, "not_encodable"),
    (StaleAttempt, "worker_lost"),
    (SystemExit, "exited"),
)


def told(
    error: BaseException,
    *,
    collectives: int | None = None,
    final_seq: int = 0,
    marks: Marks | None = None,
) -> Failed:
    """The message for an error; nothing that the error's own methods do gets in its way."""
    message = _text(error)
    return Failed(
        kind=_kind(error),
        type=_name(type(error)),
        message=message,
        traceback=_trace(error),
        exitcode=_exitcode(error),
        is_secondary=isinstance(error, RuntimeError) and bool(_BLAMES_A_PEER.search(message)),
        collectives=None if isinstance(error, SystemExit) else collectives,
        final_seq=final_seq,
        marks=marks or {},
    )


def _kind(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in FULL:
        return "storage_full"
    return next((kind for cls, kind in _KINDS if isinstance(error, cls)), "exception")


def _text(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the task called sys.exit({error.code!r})"
    try:
        text = str(error)
    except Exception:
        text = "(its message cannot be shown)"
    return _clean(text or type(error).__name__, MAX_MESSAGE)


def _trace(error: BaseException) -> str:
    if isinstance(error, InvalidInput):
        # It was refused before any code of the user's ran.
        return ""
    try:
        shown = traceback.TracebackException.from_exception(error, limit=50)
        # The way into the user's code goes; what lies behind it stays, whosever it is.
        while len(shown.stack) > 1 and shown.stack[0].filename in _OWN_FILES:
            del shown.stack[0]
        text = "".join(shown.format())
    except Exception:
        return ""
    return _clean(text if len(text) <= MAX_TRACEBACK else "…" + text[-MAX_TRACEBACK:], MAX_TRACEBACK + 1)


def _exitcode(error: BaseException) -> int | None:
    if not isinstance(error, SystemExit):
        return None
    # As the interpreter maps it: sys.exit() and sys.exit("text").
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def _clean(text: str, limit: int) -> str:
    """Short enough, and without the lone surrogates that JSON cannot carry."""
    text = text if len(text) <= limit else text[:limit] + "…"
    return text.encode(errors="replace").decode()


def _name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
