"""Large results on real ranks: stored whole before they are told of, bit for bit, by rank 0 alone."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ranks import Held
from safetensors.torch import load

from rankcast.gpu_worker.files import FileRules
from rankcast.tasks.artifacts import DirectoryArtifacts
from rankcast.tasks.event import START

pytestmark = pytest.mark.usefixtures("forkserver")


@pytest.fixture
def held(hold, tmp_path: Path) -> Held:
    held: Held = hold("t/stores")
    held.files = FileRules(artifacts=str(tmp_path / "artifacts"), owner="key1")
    return held


def stored(held: Held, told: dict[str, Any]) -> bytes:
    """What a reference refers to, checked for what each of them has."""
    assert held.claim is not None
    folder, name = told["url"].rsplit("/", 1)
    assert folder == f"/jobs/{held.claim.job_id}/artifacts"
    assert name == f"{held.claim.fence}-{name.split('-')[1]}-{told['file_name']}"
    assert held.files.artifacts is not None
    opened = DirectoryArtifacts(Path(held.files.artifacts)).open(held.claim.job_id, name)
    assert opened is not None
    with opened.file:
        data = opened.file.read()
    assert len(data) == told["file_size"] == opened.size
    return data


def tensor_of(dtype: torch.dtype, size: int) -> torch.Tensor:
    """As the task makes it."""
    made = torch.Generator().manual_seed(7)
    return torch.randn(size, generator=made).mul(100).to(dtype)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def test_what_is_too_large_for_an_event_is_stored_and_referred_to(held: Held):
    """Images, bytes, tensors, arrays; small ones stay, and so does plain JSON. Nothing is pickled."""
    output = held.value()
    small, pictures, tensors, array, odd = held.results()
    assert small["small"]["url"].startswith("data:")
    assert len(small["plain"]) == 400_000

    image = Image.open(io.BytesIO(stored(held, pictures["preview"])))
    assert (image.format, image.size) == ("PNG", (900, 900))
    preview = pictures["preview"]
    assert preview.items() >= {"content_type": "image/png", "width": 900, "height": 900}.items()
    # Numbered as they were stored, which is not the order of the values; the name has the number of its file.
    (number,) = re.findall(r"^image-(\d+)\.png$", preview["file_name"])
    assert held.claim is not None
    assert f"/{held.claim.fence}-{number}-image-{number}.png" in preview["url"]
    assert stored(held, pictures["bytes"]) == bytes(300_000)

    assert len(tensors) == 6
    for name, told in tensors.items():
        assert (told["content_type"], told["shape"]) == ("application/safetensors", [300_000])
        assert told["dtype"] == name
        kept = load(stored(held, told))["tensor"]
        assert same_bits(kept, tensor_of(kept.dtype, 300_000))

    assert (array["content_type"], array["shape"], array["dtype"]) == (
        "application/ndarray",
        [100_000],
        "int64",
    )
    assert np.load(io.BytesIO(stored(held, array)), allow_pickle=False)[-1] == 99_999
    # No tensor file can hold this type, and an array file can.
    assert (odd["content_type"], odd["dtype"]) == ("application/ndarray", "torch.complex128")
    assert np.load(io.BytesIO(stored(held, odd)), allow_pickle=False).dtype == np.complex128

    final = load(stored(held, output["final"]))["tensor"]
    assert same_bits(final, tensor_of(torch.bfloat16, 600_000))


def test_the_task_stores_what_it_likes_by_a_name(held: Held):
    """Of any size; rank 1 has done the same, and nothing came of it."""
    saved = held.value()["saved"]
    assert {name: told["content_type"] for name, told in saved.items()} == {
        "note.txt": "text/plain",
        "made.txt": "text/plain",
        "weights.safetensors": "application/safetensors",
        "small.png": "image/png",
        "table.json": "application/json",
        "array.npy": "application/ndarray",
    }
    assert stored(held, saved["note.txt"]).decode() == "ä"
    assert stored(held, saved["made.txt"]) == b"made by the task"
    assert json.loads(stored(held, saved["table.json"])) == {"rows": [1, 2]}
    weights = load(stored(held, saved["weights.safetensors"]))
    assert weights["a"].shape == (1, 2)
    assert same_bits(weights["b"], tensor_of(torch.bfloat16, 100_000))
    assert Image.open(io.BytesIO(stored(held, saved["small.png"]))).getpixel((0, 0)) == (255, 0, 0)
    assert (saved["small.png"]["width"], saved["array.npy"]["shape"]) == (3, [3])


def test_everything_that_is_stored_is_referred_to(held: Held):
    """By one attempt under its own fence; the store knows whose job it is."""
    output = held.value()
    assert held.claim is not None
    told = json.dumps([held.results(), output])
    store = DirectoryArtifacts(Path(held.files.artifacts or ""))
    names = store.names(held.claim.job_id)
    assert len(names) == 17
    assert all(f"/{name}" in told for name in names)
    assert {name.split("-")[0] for name in names} == {str(held.claim.fence)}
    assert store.owner(held.claim.job_id) == "key1"


def test_without_a_store_values_stay_in_events(hold):
    """Where no web tier reads what this worker stores; past the hard limit the error says what to do."""
    held = hold("t/stores")
    error = held.run().error
    pictures = held.event_log.read(held.claim.job_id, START, 100_000, 1 << 30)[4]
    assert b'"url":"data:image/png;base64,' in pictures.data
    assert error.kind == "not_encodable"
    assert "more than the 8388608 that are allowed" in error.message
    assert "--shared" in error.message


def test_an_event_that_cannot_be_sent_leaves_nothing_stored(hold, tmp_path: Path):
    """What was stored for it is taken back; the path is told as ever."""
    held = hold("t/fails-to-store")
    held.files = FileRules(artifacts=str(tmp_path / "artifacts"))
    assert held.value() == "$[2]: object has no JSON form"
    store = DirectoryArtifacts(tmp_path / "artifacts")
    assert store.names(held.claim.job_id) == []


def test_a_full_disk_ends_the_job_by_that_name(hold, tmp_path: Path):
    """Uncaught, as for checkpoints; nothing is told that is not there."""
    held = hold("t/fails-to-store")
    held.files = FileRules(artifacts=str(tmp_path / "artifacts"))
    outcome = held.run(is_full=True)
    assert outcome.error.kind == "storage_full"
    assert held.results() == []
    assert [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == []
