"""The JavaScript client's own rules, as rankcast.test.js has them: one test here for each of its tests."""

import os
import re
import subprocess

import pytest

from clients.programs import HERE, NODE

TESTS = HERE / "rankcast.test.js"
NAMES = re.findall(r'^test\("(.*)", async', TESTS.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    """What Node says of each test: TAP, a line a test, with the reason behind it."""
    command = [NODE, "--test", "--test-timeout=60000", "--test-reporter=tap", TESTS]
    env = {name: value for name, value in os.environ.items() if not name.startswith("RANKCAST_")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=110, check=False)
    parts = re.split(r"^(?=(?:not )?ok \d+ - )", done.stdout, flags=re.MULTILINE)
    return {match[1]: part for part in parts if (match := re.match(r"(?:not )?ok \d+ - (.*)", part))}


@pytest.mark.parametrize("name", NAMES)
def test_javascript(name: str, told: dict[str, str]) -> None:
    assert told[name].startswith("ok "), told[name]
