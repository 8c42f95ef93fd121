"""A Python that has the named extras of this tree and truly nothing else; `from bare_python import ...`."""

import importlib.metadata
import tomllib
import venv
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def bare_python(folder: Path, *extras: str) -> Path:
    """The interpreter of a new virtual environment in `folder`.

    Nothing is installed or downloaded: its packages are links to those of this environment.
    """
    venv.create(folder, symlinks=True, with_pip=False)
    (site,) = folder.glob("lib/python3*/site-packages")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"]]
    for extra in extras:
        wanted += project["project"]["optional-dependencies"][extra]
    for path in _files_of(wanted):
        (site / path.name).symlink_to(path)
    _assemble(site, project)
    return folder / "bin" / "python"


def _files_of(requirements: Iterable[str]) -> set[Path]:
    """What stands in site-packages of these distributions and of all that they ask for."""
    found: set[Path] = set()
    for distribution in _closure(requirements):
        for file in distribution.files or ():
            if file.parts[0] not in ("..", "__pycache__"):
                found.add(Path(str(distribution.locate_file(file.parts[0]))))
    return found


def _closure(requirements: Iterable[str]) -> Iterator[importlib.metadata.Distribution]:
    waiting = [(Requirement(text), frozenset[str]()) for text in requirements]
    seen = set()
    while waiting:
        requirement, asked_with = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen or not _applies(requirement, asked_with):
            continue
        seen.add(key)
        distribution = importlib.metadata.distribution(requirement.name)
        yield distribution
        waiting += [(Requirement(text), key[1]) for text in distribution.requires or ()]


def _applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _assemble(site: Path, project: dict) -> None:
    """Rankcast itself, as pyproject.toml lays its packages out."""
    for package, folder in project["tool"]["setuptools"]["package-dir"].items():
        inside = site / package.replace(".", "/")
        inside.mkdir()
        for path in (ROOT / folder).iterdir():
            (inside / path.name).symlink_to(path)
    metadata = site / "rankcast-0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: rankcast\nVersion: {project['project']['version']}\n")
