"""The demo as a user runs it: a command that shows real work, leaves pictures, and nothing else."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import clean_env, marked
from PIL import Image

DEMO = Path(__file__).parents[2] / "examples" / "digits" / "demo.py"


@pytest.fixture
def env() -> dict[str, str]:
    return clean_env(PYTHONWARNINGS="default")


def is_blank(path: Path) -> bool:
    return bool(np.asarray(Image.open(path).convert("L")).std() < 20)


def test_the_demo_trains_draws_and_leaves_pictures(tmp_path: Path, env: dict[str, str]):
    """Exit code 0, pictures that show something, and no process left."""
    done = subprocess.run(
        [sys.executable, DEMO, "--steps", "200", "--rows", "3", "--out", "pictures"],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "classifier" in done.stdout
    pictures = sorted((tmp_path / "pictures").rglob("*.png"))
    names = {str(path.relative_to(tmp_path / "pictures")) for path in pictures}
    assert {"digits.png", "train/step-00200.png", "generate/step-00200.png"} <= names
    assert [path for path in pictures if is_blank(path)] == []
    assert marked(env) == []


def test_a_demo_that_is_interrupted_stops_everything(
    tmp_path: Path, env: dict[str, str], wait_until: Callable[..., object]
):
    """Ctrl-C in the middle of training: in seconds, though 20,000 steps were asked for."""
    command = [sys.executable, DEMO, "--steps", "20000", "--out", tmp_path]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as demo:
        try:
            wait_until(lambda: list(tmp_path.glob("train/*.png")), "a first picture", timeout_s=60)
            assert len(marked(env)) > 3
            demo.send_signal(signal.SIGINT)
            said, _ = demo.communicate(timeout=30)
        finally:
            demo.kill()
    assert demo.returncode == 130, said
    assert marked(env) == []


def test_the_demo_says_what_is_wrong_with_its_arguments(tmp_path: Path, env: dict[str, str]):
    """The worker's schema decides, and the demo passes its words on."""
    done = subprocess.run(
        [sys.executable, DEMO, "--steps", "0", "--out", tmp_path],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "$.steps" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert marked(env) == []
