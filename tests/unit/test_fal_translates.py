"""web/fal translates: what is done to jobs is done by the functions that the native routes use."""

import ast
from pathlib import Path

import pytest

import rankcast.web.fal as fal

FILES = sorted(Path(fal.__path__[0]).glob("*.py"))
STRANGERS = {"redis", "celery", "kombu", "hiredis", "valkey"}


def _imported(file: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(file.read_text())))
    whole = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    return whole | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_file_imports_redis_or_celery(file: Path) -> None:
    found = _imported(file)
    assert not {name for name in found if name.partition(".")[0] in STRANGERS}
    assert not found & {"rankcast.tasks.connect", "rankcast.tasks.celery_app", "rankcast.tasks.keys"}
    assert not {name for name in found if name.startswith("rankcast.gpu_worker")}


def test_there_are_files_to_look_at() -> None:
    assert len(FILES) > 4
