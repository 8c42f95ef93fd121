"""Headers of fal's, and what they make of a job."""

import pytest

from rankcast.tasks.job import JobOptions
from rankcast.web.fal.options import options_of


@pytest.mark.parametrize(
    ("headers", "options"),
    [
        ({}, JobOptions()),
        ({"X-Fal-Queue-Priority": "normal"}, JobOptions()),
        ({"X-Fal-Queue-Priority": "low"}, JobOptions(priority=9)),
        ({"X-Fal-Queue-Priority": "urgent"}, JobOptions()),
        ({"X-Fal-Request-Timeout": "30.0"}, JobOptions(start_timeout_s=30)),
        ({"X-Fal-Request-Start-Timeout": "30"}, JobOptions(start_timeout_s=30)),
        (
            {"X-Fal-Request-Timeout": "30", "X-Fal-Request-Start-Timeout": "0.5"},
            JobOptions(start_timeout_s=0.5),
        ),
        ({"X-Fal-Runner-Hint": "lora-7"}, JobOptions()),
    ],
)
def test_headers_are_options(headers: dict[str, str], options: JobOptions) -> None:
    assert options_of(headers) == options


@pytest.mark.parametrize("text", ["soon", "", "0", "-1", "nan", "inf", "1e99"])
def test_a_timeout_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="X-Fal-Request-Timeout must be a number of seconds"):
        options_of({"X-Fal-Request-Timeout": text})
