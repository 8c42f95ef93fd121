"""Step 6. What of a user's event is the progress of its job.  Pure."""

from typing import Any

#: What of an event is the job's progress, if it has one of the first two.
PROGRESS_FIELDS = ("progress", "step", "total", "message")
MAX_PROGRESS_TEXT = 200
Progress = dict[str, int | float | str]
#: What may hold a progress.
Said = dict[str, Any]
_PLAIN = (int, float, str)


def said_of(result: Any) -> Said | None:
    """Of an event all that `progress_of` looks at, as it is now; None where it has none. It is the least that
    the thread that computes can do."""
    if not isinstance(result, dict) or not ("progress" in result or "step" in result):
        return None
    return dict(zip(PROGRESS_FIELDS, map(result.get, PROGRESS_FIELDS), strict=True))


def progress_of(result: Any) -> Progress | None:
    """The part of an event that is the job's progress; None when it has none. What it holds does not
    change: it is encoded only when it is sent, and most of it is overtaken before that."""
    if not isinstance(result, dict) or not ("progress" in result or "step" in result):
        return None
    found: Progress = {}
    for name in PROGRESS_FIELDS:
        value = result.get(name)
        # Not `int | float | str`: that makes a new type each time.
        if isinstance(value, _PLAIN) and not (isinstance(value, str) and len(value) > MAX_PROGRESS_TEXT):
            found[name] = value
    return found or None
