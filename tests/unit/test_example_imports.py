"""The demo, the examples and the CLI get by with what `rankcast` exports to everybody."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rankcast
from rankcast.gpu_worker.load import NotLoadable, load

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
CLI = sorted((ROOT / "rankcast" / "cli").glob("*.py"))

#: What the CLI would else have to write a second time. None of them does anything that a user
#: could not: `Client` has the address as its default, `Event` documents the kinds, and an error's
#: text is made of the fields in `JobFailed.error`.
WORDS = {
    *(("rankcast.tasks.event", kind) for kind in ("STATE", "CHECKPOINT", "END", "GAP", "RESET")),
    ("rankcast.client", "DEFAULT_URL"),
    ("rankcast.errors", "describe"),
    ("rankcast.tasks.declare", "is_file"),
    ("rankcast.tasks.settings", "cache_folder"),
}

#: What a server is started with: where its files lie, and who may use it. No user's script needs that.
SERVING = frozenset(
    {
        "rankcast.web.keyring",
        "rankcast.web.exposure",
        "rankcast.web.falhosts",
        "rankcast.tasks.keyuse",
        "rankcast.tasks.connect",
        "rankcast.tasks.settings",
    }
)


def imports_of(source: str) -> Iterator[tuple[str, str]]:
    """(module, name) of every import from Rankcast; the name is empty for `import rankcast.x`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            pairs = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            pairs = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        yield from ((module, name) for module, name in pairs if module.partition(".")[0] == "rankcast")


def faults_of_user_code(source: str) -> list[str]:
    """Imports that are not `from rankcast import <an exported name>`."""
    return [
        f"{module} {name}".strip()
        for module, name in imports_of(source)
        if module != "rankcast" or name not in rankcast.__all__
    ]


def faults_of_cli(source: str) -> list[str]:
    """As above, but the CLI has modules of its own, and lives in the package that makes the exports.

    It may therefore name the module that an exported name comes from. The commands that start
    processes need no more: they start them by their command lines.
    """
    return [
        f"{module} {name}".strip()
        for module, name in imports_of(source)
        if not f"{module}.".startswith("rankcast.cli.")
        and name not in rankcast.__all__
        and (module, name) not in WORDS
        and module not in SERVING
    ]


def test_the_examples_are_found():
    """An empty list would let every test below pass."""
    names = {path.name for path in EXAMPLES}
    assert {"demo.py", "train.py", "generate.py", "sdxl.py", "lora.py"} <= names
    assert {"up.py", "worker.py", "watch.py"} <= {path.name for path in CLI}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_imports_only_what_rankcast_exports(path: Path):
    """What an example needs, every user can have."""
    assert faults_of_user_code(path.read_text()) == []


@pytest.mark.parametrize("path", CLI, ids=lambda path: path.name)
def test_the_cli_uses_only_names_that_rankcast_exports(path: Path):
    """Whatever the command line does, a user's own script can do."""
    assert faults_of_cli(path.read_text()) == []


@pytest.mark.parametrize("name", ["sdxl", "lora"])
def test_an_example_of_diffusion_says_what_it_lacks(name: str, monkeypatch: pytest.MonkeyPatch):
    """A worker with no more than the server extra is told what to install, and which file wants it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for absent in ("diffusers", "peft", "transformers"):
        monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(NotLoadable, match=r"sdxl_model\.py:.*pip install 'rankcast\[server,diffusion\]'"):
        load(str(ROOT / "examples" / "diffusion" / f"{name}.py"))


def test_a_folder_of_weights_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch):
    """When the worker starts, and not by the first job."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "sdxl_files", raising=False)
    monkeypatch.setenv("SDXL_DIR", "/no/such/folder")
    with pytest.raises(NotLoadable, match="SDXL_DIR is '/no/such/folder', which is no folder on this host"):
        load(str(ROOT / "examples" / "diffusion" / "sdxl.py"))


def test_an_import_past_the_exports_is_found():
    """In each of the forms it can take, inside a function too."""
    assert faults_of_user_code("import rankcast.tasks.store") == ["rankcast.tasks.store"]
    assert faults_of_user_code("if True:\n    from rankcast.tasks import job") == ["rankcast.tasks job"]
    assert faults_of_user_code("from rankcast import no_such_name") == ["rankcast no_such_name"]
    assert faults_of_user_code("from rankcast import task\nimport rankcaster") == []
    assert faults_of_cli("from rankcast.tasks.store import JobStore") == ["rankcast.tasks.store JobStore"]
    assert faults_of_cli("from rankcast.client import Client\nfrom rankcast.cli.up import anything") == []
