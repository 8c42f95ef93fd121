"""What type checkers of users see."""

import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rankcast import AsyncClient, AsyncJob, Client, Job

ROOT = Path(__file__).parents[2]
USER = Path(__file__).with_name("typed_user.py")


def test_a_users_program_is_checked_as_far_as_it_uses_rankcast(tmp_path):
    """`py.typed` is there, names and arguments are known, and a slip is found."""
    # As installed: mypy finds rankcast.tasks and its like nowhere else.
    shutil.copytree(ROOT / "rankcast", tmp_path / "rankcast")
    for package in ("tasks", "gpu_worker", "web"):
        shutil.copytree(ROOT / package, tmp_path / "rankcast" / package)
    shutil.copy(USER, tmp_path)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", USER.name]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(("blocking", "waiting"), [(Client, AsyncClient), (Job, AsyncJob)])
def test_both_clients_have_the_same_methods_with_the_same_arguments(blocking, waiting):
    """Whoever knows one knows the other."""
    assert _methods(blocking) == _methods(waiting)


def _methods(cls: type) -> dict[str, list[inspect.Parameter]]:
    found = inspect.getmembers(cls, inspect.isfunction)
    return {
        name.replace("aclose", "close"): list(inspect.signature(method).parameters.values())
        for name, method in found
        if name == "__init__" or not name.startswith("_")
    }
