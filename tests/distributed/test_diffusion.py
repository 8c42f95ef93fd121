"""The diffusion examples in a whole system: a tiny SDXL draws, on two real ranks and on one.

One system serves all tests: importing diffusers takes its worker longer than most of the jobs take.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ranks import TASKS

from rankcast import Job, JobCancelled
from rankcast.testing import System, system

DIFFUSION = Path(__file__).parents[2] / "examples" / "diffusion"
SDXL = "examples/sdxl"


@pytest.fixture(scope="module")
def it() -> Iterator[System]:
    with system(DIFFUSION / "sdxl.py", TASKS / "diffusion_variants.py") as it:
        yield it


@pytest.fixture
def no_process_is_left() -> None:
    """The system is there until the last test; test_testing_system.py sees to what is left of it."""


def results(job: Job) -> list[dict[str, Any]]:
    return [event.data for event in job.stream() if event.is_result]


def fetched(it: System, reference: dict[str, Any], folder: Path) -> bytes:
    return it.client.download(reference, folder / "fetched").read_bytes()


def draw(it: System, folder: Path, task: str = SDXL, **input: Any) -> list[bytes]:
    """The files of the pictures."""
    asked = {"prompt": "a cat", "num_inference_steps": 4, **input}
    output = it.client.submit(task, asked).result(60)
    return [fetched(it, reference, folder) for reference in output["images"]]


def image_of(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def difference(one: bytes, other: bytes) -> int:
    """The largest of any pixel's, 0 to 255."""
    return int(np.abs(np.asarray(image_of(one), int) - np.asarray(image_of(other), int)).max())


@pytest.fixture(scope="module")
def drawn(it: System, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Three pictures by two ranks."""
    return draw(it, tmp_path_factory.mktemp("drawn"), num_images=3, seed=7)


def test_every_picture_is_a_png_of_its_own(it: System, drawn: list[bytes]):
    """With something on it, as large as the model draws."""
    images = [image_of(data) for data in drawn]
    assert [(image.format, image.size) for image in images] == [("PNG", (64, 64))] * 3
    assert all(np.asarray(image).std() > 20 for image in images)
    assert len(set(drawn)) == 3


def test_a_picture_depends_on_its_seed_and_not_on_who_draws_it(
    it: System, drawn: list[bytes], tmp_path: Path
):
    """The same to the byte, again and alone; and by one rank with more threads, which rounds otherwise."""
    assert draw(it, tmp_path, num_images=3, seed=7) == drawn
    assert draw(it, tmp_path, num_images=1, seed=8) == [drawn[1]]
    alone = draw(it, tmp_path, "t/sdxl-alone", num_images=3, seed=7)
    assert [difference(one, other) <= 2 for one in drawn for other in alone] == [
        *(True, False, False),
        *(False, True, False),
        *(False, False, True),
    ]


def test_the_prompt_the_guidance_and_the_size_are_what_was_asked(
    it: System, drawn: list[bytes], tmp_path: Path
):
    first = [drawn[0]]
    assert draw(it, tmp_path, num_images=1, seed=7, prompt="a dog") != first
    assert draw(it, tmp_path, num_images=1, seed=7, negative_prompt="a dog") != first
    assert draw(it, tmp_path, num_images=1, seed=7, guidance_scale=1.5) != first
    [wide] = draw(it, tmp_path, num_images=1, width=128, height=72)
    assert image_of(wide).size == (128, 72)


def test_pictures_emerge_in_previews_of_all_ranks(it: System, tmp_path: Path):
    """In order, and the last one shows what the output has."""
    asked = {"prompt": "a cat", "num_images": 2, "num_inference_steps": 10, "preview_every": 4}
    job = it.client.submit(SDXL, asked)
    told = results(job)
    assert [(each["step"], each["total"], each["progress"]) for each in told] == [
        (4, 10, 0.4),
        (8, 10, 0.8),
        (10, 10, 1.0),
    ]
    output = job.result()
    assert (output["seeds"], output["prompt"]) == ([0, 1], "a cat")
    previews = [image_of(fetched(it, each["preview"], tmp_path)) for each in told]
    assert {preview.size for preview in previews} == {(128, 64)}
    finished = side_by_side([fetched(it, each, tmp_path) for each in output["images"]])
    assert [np.array_equal(preview, as_streamed(finished)) for preview in previews] == [False, False, True]


def side_by_side(pictures: list[bytes]) -> Image.Image:
    return Image.fromarray(np.hstack([np.asarray(image_of(data)) for data in pictures]))


def as_streamed(image: Image.Image) -> Image.Image:
    """What is left of it in an event."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return image_of(file.getvalue())


def test_previews_keep_what_was_drawn_before(it: System):
    """Three pictures by two ranks take two turns, and steps are counted through both."""
    asked = {"prompt": "a cat", "num_images": 3, "num_inference_steps": 4, "preview_every": 4}
    told = results(it.client.submit(SDXL, asked))
    assert [(each["step"], each["total"]) for each in told] == [(4, 8), (8, 8)]
    assert [(each["preview"]["width"], each["preview"]["height"]) for each in told] == [(128, 64), (128, 128)]


def test_a_drawing_that_is_cancelled_stops_on_all_ranks(it: System, drawn: list[bytes], tmp_path: Path):
    """And the ranks, which are still there, draw what is asked next."""
    job = it.client.submit(SDXL, prompt="a cat", num_inference_steps=200, num_images=16, preview_every=1)
    told = cancel_after_first_result(job)
    assert told[-1]["step"] < told[-1]["total"]
    before = pids(it)
    assert draw(it, tmp_path, num_images=3, seed=7) == drawn
    assert pids(it) == before


def cancel_after_first_result(job: Job) -> list[dict[str, Any]]:
    told = []
    for event in job.stream():
        if event.is_result:
            told.append(event.data)
            job.cancel()
    with pytest.raises(JobCancelled):
        job.result()
    return told


def pids(it: System) -> list[int]:
    """Of the ranks that were loaded last."""
    return [int(pid) for pid in re.findall(r" ms, pids \((.*?),?\)", it.log())[-1].split(",")]


def test_weights_come_from_the_folders_that_the_worker_has(it: System, drawn: list[bytes], tmp_path: Path):
    """As diffusers saves them: of the model, and of what decodes previews, which is another one here."""
    job = it.client.submit(
        "t/sdxl-from-a-folder", prompt="a cat", num_images=1, num_inference_steps=4, seed=7
    )
    [picture] = [fetched(it, each, tmp_path) for each in job.result(60)["images"]]
    assert image_of(picture).size == (64, 64)
    assert picture != drawn[0]
    preview = image_of(fetched(it, results(job)[-1]["preview"], tmp_path))
    assert preview.size == (64, 64)
    assert not np.array_equal(preview, as_streamed(image_of(picture)))


@pytest.mark.parametrize("task", [SDXL])
def test_all_that_can_be_asked_for_has_bounds(it: System, task: str):
    """A job over HTTP cannot ask for more than a worker can give, nor for anything else."""
    [known] = [known for known in it.client.tasks() if known["name"] == task]
    schema = known["input_schema"]
    assert schema["additionalProperties"] is False
    choices = [(name, each) for name, of in schema["properties"].items() for each in of.get("anyOf", [of])]
    numbers = [(name, each) for name, each in choices if each.get("type") in ("integer", "number")]
    assert len(numbers) > 4
    for name, each in numbers:
        assert {"maximum", "exclusiveMaximum"} & each.keys(), name
        assert {"minimum", "exclusiveMinimum"} & each.keys(), name
