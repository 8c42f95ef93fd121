"""Values on their way between fal's clients and jobs: what names a file is turned around."""

from typing import Any


def inward(job_input: dict[str, Any]) -> dict[str, Any]:
    """An input as the task is to get it."""
    return job_input


def outward(json_text: bytes) -> bytes:
    """An output, or the data of an event, as a client of fal's is to get it; both JSON text."""
    return json_text
