"""The diffusion examples in a whole system: a tiny SDXL draws and learns, on two real ranks and on one.

One system serves all tests: importing diffusers takes its worker longer than most of the jobs take.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from helpers import wait_until
from PIL import Image, ImageDraw
from ranks import TASKS
from safetensors.torch import load_file, save

from rankcast import Job, JobCancelled, JobFailed
from rankcast.testing import System, system

DIFFUSION = Path(__file__).parents[2] / "examples" / "diffusion"
SDXL, LORA = "examples/sdxl", "examples/sdxl-lora"

#: A training that learns something, and saves once under way.
TRAINING = {"prompt": "a black cross", "steps": 100, "learning_rate": 1e-2, "seed": 3}


@pytest.fixture(scope="module")
def it() -> Iterator[System]:
    with system(DIFFUSION / "sdxl.py", DIFFUSION / "lora.py", TASKS / "diffusion_variants.py") as it:
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
    asked = {"prompt": "a cat", "num_images": 1, "num_inference_steps": 4, "seed": 7}
    job = it.client.submit("t/sdxl-from-a-folder", asked)
    [picture] = [fetched(it, each, tmp_path) for each in job.result(60)["images"]]
    assert image_of(picture).size == (64, 64)
    assert picture != drawn[0]
    preview = image_of(fetched(it, results(job)[-1]["preview"], tmp_path))
    assert preview.size == (64, 64)
    assert not np.array_equal(preview, as_streamed(image_of(picture)))


@pytest.fixture(scope="module")
def files(it: System) -> list[dict[str, Any]]:
    """Two uploaded pictures, of other shapes than the model's."""
    return [it.client.upload(picture(size), f"{size[0]}.png") for size in ((200, 100), (90, 180))]


def picture(size: tuple[int, int]) -> bytes:
    image = Image.new("RGBA", size, "white")
    ImageDraw.Draw(image).line([(0, 0), size], fill="black", width=9)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def trained(it: System, files: list[dict[str, Any]]) -> Job:
    """By two ranks, at one go."""
    job = it.client.submit(LORA, {**TRAINING, "images": [files[0], files[1]["url"]]})
    job.result(100)
    return job


def test_the_loss_falls(trained: Job):
    """On few pictures, told every 10 steps, with a picture now and then."""
    told = results(trained)
    assert [each["step"] for each in told] == list(range(10, 101, 10))
    assert [each["step"] for each in told if "preview" in each] == [50, 100]
    losses = [each["loss"] for each in told]
    assert losses[-1] < 0.8 * losses[0]
    assert trained.result()["final_loss"] == losses[-1]


def test_all_ranks_end_with_the_same_adapter(trained: Job):
    """Each tells the digest of its own, and has trained on pictures and noise that the other had not."""
    first, second = trained.result()["weights_sha256"]
    assert first == second


def test_two_ranks_train_what_one_does_with_batches_of_both(it: System, tmp_path: Path):
    """Gradients are averaged over the ranks: what comes out differs by rounding, where seeds make it differ
    a hundredfold more."""
    asked = {**TRAINING, "steps": 10}
    both = adapter(it, tmp_path, LORA, **asked, batch_size=2)
    alone = adapter(it, tmp_path, "t/lora-alone", **asked, batch_size=4)
    half = adapter(it, tmp_path, "t/lora-alone", **asked, batch_size=2)
    assert distance(both, alone) < distance(half, alone) / 100


def adapter(it: System, folder: Path, task: str, **input: Any) -> dict[str, Any]:
    output = it.client.submit(task, input).result(60)
    return load_file(it.client.download(output["lora"], folder / "adapter"))


def distance(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The sum of what all weights differ by: of a single one, AdamW may turn a rounding into a step."""
    assert one.keys() == other.keys()
    return sum(float((one[name] - other[name]).abs().sum()) for name in one)


def test_a_training_that_lost_a_rank_ends_with_the_adapter_of_one_that_did_not(
    it: System, trained: Job, files: list[dict[str, Any]]
):
    """kill -9 behind a checkpoint; the second attempt makes the steps after it, and no others."""
    job = it.client.submit(LORA, {**TRAINING, "images": files})
    wait_until(lambda: job.record()["checkpoint"], "a checkpoint", timeout_s=60)
    psutil.Process(pids(it)[1]).kill()
    assert job.result(100)["weights_sha256"] == trained.result()["weights_sha256"]
    began = [event.data for event in job.stream() if event.data.get("state") == "running"]
    assert [(each["attempt"], each.get("resumes_from", {}).get("step")) for each in began] == [
        (1, None),
        (2, 50),
    ]


def test_a_training_that_is_cancelled_leaves_nothing_to_the_next(
    it: System, files: list[dict[str, Any]], tmp_path: Path
):
    """On the same ranks: the adapter was taken out again."""
    asked = {**TRAINING, "steps": 10}
    fresh = adapter(it, tmp_path, LORA, **asked)
    told = cancel_after_first_result(it.client.submit(LORA, {**TRAINING, "steps": 20_000}))
    assert told[-1]["step"] < 20_000
    assert distance(adapter(it, tmp_path, LORA, **asked), fresh) == 0


def test_the_adapter_changes_what_is_drawn_as_long_as_it_is_asked_for(
    it: System, trained: Job, drawn: list[bytes], tmp_path: Path
):
    """A diffusers pipeline loads the file, by its reference or its URL; the job after that is without it."""
    lora = trained.result()["lora"]
    assert lora["content_type"] == "application/safetensors"
    worn = draw(it, tmp_path, num_images=3, seed=7, lora=lora)
    assert not set(worn) & set(drawn)
    assert draw(it, tmp_path, num_images=3, seed=7, lora=lora["url"]) == worn
    assert draw(it, tmp_path, num_images=3, seed=7) == drawn


def test_an_adapter_of_another_model_is_refused_and_leaves_nothing(
    it: System, trained: Job, drawn: list[bytes], tmp_path: Path
):
    """The ranks that had begun to load it draw the next pictures as before."""
    ours = load_file(it.client.download(trained.result()["lora"], tmp_path / "ours"))
    theirs = {name: weight[:, :3].contiguous() for name, weight in ours.items()}
    lora = it.client.upload(save(theirs), "theirs.safetensors")
    assert draw(it, tmp_path, num_images=3, seed=7) == drawn
    before = pids(it)
    with pytest.raises(JobFailed, match="size mismatch"):
        draw(it, tmp_path, lora=lora)
    assert draw(it, tmp_path, num_images=3, seed=7) == drawn
    with pytest.raises(JobFailed, match="invalid_input"):
        draw(it, tmp_path, lora=f"/files/{'0' * 32}/never-uploaded")
    assert pids(it) == before


def test_what_is_no_picture_is_named(it: System, files: list[dict[str, Any]]):
    """By every rank at once, so none of them has to be killed."""
    text = it.client.upload(b"a black cross", "cross.png")
    before = it.client.submit(LORA, {**TRAINING, "steps": 1})
    before.result(60)
    loaded = pids(it)
    job = it.client.submit(LORA, {**TRAINING, "images": [files[0], text]})
    with pytest.raises(JobFailed, match=r"images\[1\] is no picture that can be read"):
        job.result(60)
    it.client.submit(LORA, {**TRAINING, "steps": 1}).result(60)
    assert pids(it) == loaded


@pytest.mark.parametrize("task", [SDXL, LORA])
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
