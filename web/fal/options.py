"""What fal's headers ask of a job.  Pure."""

from collections.abc import Mapping
from typing import Any

from werkzeug.datastructures import Headers

from rankcast.tasks.job import DEFAULT_PRIORITY, LOWEST_PRIORITY, JobOptions, option_faults

#: The old name, which clients still send, and the new one.
START_TIMEOUT = ("X-Fal-Request-Timeout", "X-Fal-Request-Start-Timeout")
#: Low comes after all that is normal. What else there may be is ignored, as fal does.
PRIORITIES = {"normal": DEFAULT_PRIORITY, "low": LOWEST_PRIORITY}


def options_of(headers: Mapping[str, str] | Headers) -> JobOptions:
    """The options of a submit with these headers; ValueError for a time-out that is none.

    `X-Fal-Runner-Hint` has no effect: a warm slot of the task is looked for in any case.
    """
    found: dict[str, Any] = {
        "priority": PRIORITIES.get(headers.get("X-Fal-Queue-Priority", ""), DEFAULT_PRIORITY),
    }
    for name in START_TIMEOUT:
        if (text := headers.get(name)) is not None:
            found["start_timeout_s"] = _seconds(name, text)
    return JobOptions(**found)


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number of seconds, not {text[:40]!r}") from None
    for _, fault in option_faults({"start_timeout_s": seconds}):
        raise ValueError(f"{name} {fault}")
    return seconds
