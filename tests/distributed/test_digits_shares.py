"""How the digits examples divide work among ranks, looked at without any."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from rankcast.gpu_worker.load import TaskClass, load

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


@pytest.fixture(scope="module")
def train() -> TaskClass:
    (task,) = load(str(DIGITS / "train.py"))
    return task


@pytest.fixture(scope="module")
def generate() -> TaskClass:
    (task,) = load(str(DIGITS / "generate.py"))
    return task


def pictures_of_an_epoch(train: TaskClass, rank: int, world_size: int, *, epoch: int) -> list[bytes]:
    """What one rank trains on in one epoch, which is 7 batches of 128 for each of two ranks."""
    worker: Any = train.cls(rank=rank, world_size=world_size)
    worker.initialize()
    batches = islice(worker.batches(128, seed=0), 7 * epoch, 7 * (epoch + 1))
    return [picture.numpy().tobytes() for pictures, _ in batches for picture in pictures]


def test_no_rank_trains_on_what_another_has(train: TaskClass):
    """In one epoch a scan belongs to one rank, and every rank has as many."""
    first, second = (pictures_of_an_epoch(train, rank, 2, epoch=0) for rank in (0, 1))
    assert len(first) == len(second) == 7 * 128
    assert not set(first) & set(second)


def test_every_epoch_is_dealt_anew(train: TaskClass):
    """So each rank meets every scan sooner or later."""
    first, second = (set(pictures_of_an_epoch(train, 0, 2, epoch=epoch)) for epoch in (0, 1))
    assert 0.4 < len(first & second) / len(first) < 0.6


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 20])
def test_the_ranks_draw_all_labels_between_them(generate: TaskClass, world_size: int):
    """As many on every rank, which a gather needs; dealt in turn, so that the order can be restored."""
    labels = list(range(10))
    workers: list[Any] = [generate.cls(rank=rank, world_size=world_size) for rank in range(world_size)]
    shares = [worker.share_of(labels).tolist() for worker in workers]
    assert len({len(share) for share in shares}) == 1
    dealt = [label for turn in zip(*shares, strict=True) for label in turn]
    assert dealt[: len(labels)] == labels


@pytest.mark.parametrize("task", ["train", "generate"])
def test_every_number_that_can_be_asked_for_has_bounds(task: str, request: pytest.FixtureRequest):
    """A job over HTTP cannot ask for more than a worker can give."""
    for name, schema in request.getfixturevalue(task).input_schema["properties"].items():
        if schema["type"] == "string":
            assert schema["pattern"].startswith("^"), name
            assert schema["pattern"].endswith("$"), name
        else:
            assert schema["minimum"] >= 0, name
            assert schema.get("maximum", schema.get("exclusiveMaximum")), name
