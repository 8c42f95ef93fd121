"""What a value is stored as, and under which names; what becomes of it without a store."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from payloads import bytes_of
from PIL import Image

from rankcast.gpu_worker import tensors
from rankcast.gpu_worker.artifacts import AttemptArtifacts
from rankcast.tasks.artifacts import DirectoryArtifacts
from rankcast.tasks.errors import EventTooLarge, NotEncodable
from rankcast.tasks.job import new_job_id

JOB = new_job_id()
PICTURE = Image.new("RGBA", (3, 2), (255, 0, 0, 0))


def attempt(root: Path | None, fence: int = 7) -> AttemptArtifacts:
    store = None if root is None else DirectoryArtifacts(root)
    return AttemptArtifacts(store, JOB, fence, owner="", tensors=tensors)


def test_the_same_name_twice_is_two_files(tmp_path: Path):
    """Also from two attempts at once: what was referred to stays as it was."""
    first, second = attempt(tmp_path, 7), attempt(tmp_path, 8)
    told = [each.save("a.txt", text) for each, text in ((first, "1"), (second, "2"), (first, "3"))]
    urls = [each["url"].rpartition("/")[2] for each in told]
    assert urls == ["7-1-a.txt", "8-1-a.txt", "7-2-a.txt"]
    assert [(tmp_path / JOB / name).read_text() for name in urls] == ["1", "2", "3"]


def test_files_that_the_task_did_not_name_have_names_of_their_own(tmp_path: Path):
    """Whoever fetches all previews into one folder has them all."""
    apart = attempt(tmp_path).apart(0)
    assert apart is not None
    names = [apart.put("image.png", b"x")["file_name"] for _ in range(3)]
    assert names == ["image-1.png", "image-2.png", "image-3.png"]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("a.png", torch.zeros(2), r"a tensor needs a name that ends in \.safetensors"),
        ("a.npy", {"a": torch.zeros(2)}, r"\.safetensors"),
        ("a.safetensors", np.zeros(2), r"an array needs a name that ends in \.npy"),
        ("a.gif", PICTURE, r"\.jpg or \.jpeg or \.png or \.webp"),
        ("a.txt", {"rows": []}, r"dict, as JSON, needs a name that ends in \.json"),
        ("../a.txt", "", "cannot be an artifact's name"),
        ("a.txt", Path("/nowhere"), "is no file"),
        ("a.txt", Path("/"), "is no file"),
        ("a.npy", np.array([object()]), "allow_pickle"),
    ],
)
def test_a_name_that_says_something_else_is_refused(tmp_path: Path, name: str, value: Any, says: str):
    """Nobody could read such a file; nothing is left of it."""
    with pytest.raises(ValueError, match=says):
        attempt(tmp_path).save(name, value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("name", "value"), [("a.json", object()), ("a.safetensors", torch.zeros(2).to(torch.complex128))]
)
def test_what_has_no_form_is_refused(tmp_path: Path, name: str, value: Any):
    with pytest.raises(NotEncodable):
        attempt(tmp_path).save(name, value)


def test_without_a_store_a_small_file_stays_in_its_reference():
    """The same fields; a large one has nowhere to go."""
    told = attempt(None).save("a.json", {"rows": [1]})
    assert json.loads(bytes_of(told)) == {"rows": [1]}
    assert (told["file_name"], told["file_size"]) == ("a.json", 12)
    with pytest.raises(EventTooLarge, match="--shared"):
        attempt(None).save("a.bin", bytes(7_000_000))
    assert attempt(None).apart(1000) is None
