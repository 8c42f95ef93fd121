"""The types of the JavaScript client say what it does: TypeScript compares them with the module itself."""

import shutil
import subprocess
from pathlib import Path

import pytest

from clients.programs import HERE, NODE, STATIC, skip_if_missing

TSC = HERE / "node_modules" / ".bin" / "tsc"
LANGUAGE = (
    *("--target", "es2022", "--module", "nodenext", "--strict", "--skipDefaultLibCheck"),
    *("--lib", "es2023,dom,dom.iterable,dom.asynciterable"),
)
#: Of what is not exported no types are written down, so they are as the compiler finds them.
FIND_TYPES = (
    *("--checkJs", "--noImplicitAny", "false", "--useUnknownInCatchVariables", "false"),
    *("--declaration", "--emitDeclarationOnly", "actual.js"),
)
COMPARE = ("--noEmit", "--allowImportingTsExtensions", "conforms.ts")


def objections(folder: Path, *options: str) -> str:
    """What the compiler says."""
    command = [NODE, TSC, *LANGUAGE, *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110, check=False)
    assert (done.returncode == 0) == (done.stdout == ""), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module as `actual.js`, so that what is declared of `rankcast.js` is not taken for it, and the
    types that the compiler finds in it."""
    skip_if_missing("eventsource-npm")  # the compiler is installed with it
    folder = tmp_path_factory.mktemp("types")
    shutil.copy(STATIC / "rankcast.js", folder / "actual.js")
    shutil.copy(HERE / "conforms.ts", folder)
    (folder / "package.json").write_text('{"type": "module"}')
    shutil.copy(STATIC / "rankcast.d.ts", folder)
    assert objections(folder, *FIND_TYPES) == ""
    return folder


def test_the_module_is_what_its_types_declare(folder: Path) -> None:
    """All of it, and nothing more."""
    assert objections(folder, *COMPARE) == ""


def test_types_that_say_something_else_are_found(folder: Path) -> None:
    """A result of another type, and a method that is not declared."""
    types = folder / "rankcast.d.ts"
    declared = types.read_text()
    wrong = declared.replace("cancel(options?: CallOptions): Promise<string>", "cancel(): Promise<number>")
    types.write_text(wrong.replace("  status(options?: CallOptions): Promise<Status>;", ""))
    told = objections(folder, *COMPARE)
    types.write_text(declared)
    assert "The types returned by 'cancel(...)'" in told
    assert "'\"status\"' is not assignable to type 'never'" in told
