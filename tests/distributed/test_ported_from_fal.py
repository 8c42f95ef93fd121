"""A file written for fal.distributed runs after its import line was changed and `@task` was added."""

import base64
import io
from collections.abc import Iterator

import pytest
from PIL import Image
from ranks import TASKS

from rankcast.gpu_worker.forkserver import ForkServer

pytestmark = pytest.mark.usefixtures("forkserver")

FAL_IMPORT = "from fal.distributed import DistributedWorker"
OUR_IMPORT = "from rankcast import DistributedWorker, task"


@pytest.fixture(scope="module")
def forkserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Serves the file as the README's two changes leave it."""
    theirs = (TASKS / "ported_from_fal.py").read_text()
    ours = theirs.replace(FAL_IMPORT, OUR_IMPORT)
    for name in ("Painter", "Trainer"):
        decorator = f'@task("ported/{name.lower()}", world_size=2)'
        ours = ours.replace(f"class {name}(", f"{decorator}\nclass {name}(")
    changed = set(ours.splitlines()) ^ set(theirs.splitlines())
    assert len(changed) == 4, "one line was changed and two were added"
    path = tmp_path_factory.mktemp("ported") / "ported.py"
    path.write_text(ours)
    server = ForkServer.start([str(path)], counts_devices=False)
    yield server
    server.stop()


def picture(value: dict[str, str]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(value["url"].partition(",")[2])))


def is_bright(image: Image.Image, x: int) -> int:
    """Brightness, 0 to 255, of the column `x`, about: JPEG does not keep it to the digit."""
    return int(image.convert("L").getpixel((x, 1)))


def test_previews_of_all_ranks_are_streamed_and_the_last_picture_is_the_output(hold):
    """`streaming` and `**kwargs` are passed as fal passes them; a translucent picture is no problem."""
    held = hold("ported/painter")
    output = held.value(prompt="x", num_inference_steps=4, guidance=2.5)
    assert (output["prompt"], output["seen"]) == ("x", ["guidance"])
    assert [event["step"] for event in held.results()] == [0, 2]
    for image in [picture(event["image"]) for event in held.results()] + [picture(output["image"])]:
        assert image.size == (8, 4)
        assert abs(is_bright(image, 1) - 10) < 5
        assert abs(is_bright(image, 6) - 20) < 5


def test_coroutines_and_threads_work_as_they_did(hold):
    """`async def` runs on the worker's loop, `run_in_worker` beside it; collectives in both."""
    held = hold("ported/trainer")
    assert held.value(max_train_steps=2) == {"final_loss": 4.0, "num_steps": 2}
    assert held.results() == [
        {"step": 1, "loss": 2.0, "progress": "1/2"},
        {"step": 2, "loss": 4.0, "progress": "2/2"},
    ]
