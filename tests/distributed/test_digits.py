"""The digits examples on two real ranks, asked for over HTTP: they learn, draw, stream and stop.

One `rankcast up` answers all that is asked here. It has been started, asked and stopped before the
first test, each of which looks at some of what came out.
"""

import base64
import io
import runpy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from rankcast import Client, Event, JobCancelled, JobFailed

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
TRAIN, GENERATE = "examples/digits-train", "examples/digits-generate"
STEPS = 300

#: The examples are no package: the demo's way of starting Rankcast is taken out of its file.
rankcast_up = runpy.run_path(str(DIGITS / "demo_server.py"))["rankcast_up"]


@dataclass(frozen=True)
class Told:
    """What one job streamed, and what it returned."""

    events: list[Event]
    output: Any

    @property
    def results(self) -> list[dict[str, Any]]:
        return [event.data for event in self.events if event.is_result]

    @property
    def previews(self) -> list[Image.Image]:
        return [image_of(result["preview"]) for result in self.results if "preview" in result]


@dataclass(frozen=True)
class Transcript:
    folder: Path
    trained: Told
    drawn: Told
    #: After one step of training: what the classifier must not recognise.
    scrawled: Told
    cancelled: list[Event]
    #: Asked for after the cancelled job, of the same slot; two ranks draw the same digit.
    sevens: Told
    refused: JobFailed


@pytest.fixture(scope="module")
def transcript(tmp_path_factory: pytest.TempPathFactory) -> Transcript:
    folder = tmp_path_factory.mktemp("digits")
    with rankcast_up(log=folder / "up.log", env={"DIGITS_DIR": str(folder)}) as address:
        with Client(address) as client:
            transcript = converse(client, folder)
    return transcript


def converse(client: Client, folder: Path) -> Transcript:
    trained = ask(client, TRAIN, steps=STEPS, name="learnt")
    ask(client, TRAIN, steps=1, name="unlearnt")
    cancelled = cancel_after_first_result(client, TRAIN, steps=20_000, name="cancelled")
    with pytest.raises(JobFailed) as refused:
        ask(client, GENERATE, checkpoint="never-trained")
    return Transcript(
        folder=folder,
        trained=trained,
        drawn=ask(client, GENERATE, checkpoint="learnt", rows=10),
        scrawled=ask(client, GENERATE, checkpoint="unlearnt", rows=10),
        cancelled=cancelled,
        sevens=ask(client, GENERATE, checkpoint="learnt", digits="7777", rows=4),
        refused=refused.value,
    )


def ask(client: Client, task: str, **input: Any) -> Told:
    job = client.submit(task, input)
    events = list(job.stream())
    return Told(events, job.result())


def cancel_after_first_result(client: Client, task: str, **input: Any) -> list[Event]:
    job = client.submit(task, input)
    events = []
    for event in job.stream():
        events.append(event)
        if event.is_result:
            job.cancel()
    with pytest.raises(JobCancelled):
        job.result()
    return events


def bytes_of(encoded: dict[str, Any]) -> bytes:
    return base64.b64decode(encoded["url"].partition("base64,")[2], validate=True)


def image_of(encoded: dict[str, Any]) -> Image.Image:
    image = Image.open(io.BytesIO(bytes_of(encoded)))
    assert image.size == (encoded["width"], encoded["height"])
    return image


def ink_of(told: Told) -> np.ndarray:
    ink: np.ndarray = np.load(io.BytesIO(bytes_of(told.output["digits"])), allow_pickle=False)
    return ink


def share_recognised(told: Told) -> float:
    """By a plain classifier that has seen only scans of real handwriting."""
    scans = load_digits()
    classifier = SVC(gamma=0.001).fit(scans.data, scans.target)
    ink = ink_of(told)
    return float(np.mean(classifier.predict(ink.reshape(-1, 64)) == told.output["labels"]))


def test_a_classifier_of_real_scans_reads_the_digits_as_asked(transcript: Transcript):
    """The demo is real work: what was asked for is what was drawn."""
    assert transcript.drawn.output["labels"] == list(range(10)) * 10
    assert ink_of(transcript.drawn).shape == (100, 8, 8)
    assert share_recognised(transcript.drawn) >= 0.8


def test_the_classifier_reads_nothing_into_an_untrained_model(transcript: Transcript):
    """So the proof above proves something."""
    assert share_recognised(transcript.scrawled) <= 0.4


def test_all_ranks_end_with_the_same_weights(transcript: Transcript):
    """Each rank tells the digest of its own; data-parallel training keeps them equal to the bit."""
    first, second = transcript.trained.output["weights_sha256"]
    assert first == second


def test_training_tells_how_far_it_is_and_how_fast(transcript: Transcript):
    """Every 25 steps, in order, to the last."""
    results = transcript.trained.results
    assert [result["step"] for result in results] == list(range(25, STEPS + 1, 25))
    assert {result["total"] for result in results} == {STEPS}
    assert all(result["examples_per_s"] > 0 for result in results)
    assert results[0]["eta_s"] > results[-1]["eta_s"] == 0


def test_the_loss_falls(transcript: Transcript):
    """Averaged over both ranks; the output has the last one."""
    losses = [result["loss"] for result in transcript.trained.results]
    assert losses[0] > losses[len(losses) // 2] > 0
    assert losses[-1] < losses[0] / 1.5
    assert transcript.trained.output["final_loss"] == losses[-1]


def test_every_stream_begins_queued_and_has_one_end(transcript: Transcript):
    """Whatever the job: its states in order, its results between them, and nothing after the end."""
    for told in (transcript.trained, transcript.drawn, transcript.scrawled, transcript.sevens):
        kinds = [event.kind for event in told.events]
        assert kinds.count("end") == 1
        assert kinds[-1] == "end"
        states = [event.data["state"] for event in told.events if event.kind in ("state", "end")]
        assert states == ["queued", "starting", "running", "succeeded"]
        assert kinds.index("") > [event.data.get("state") for event in told.events].index("running")


def test_previews_are_pictures_with_something_on_them(transcript: Transcript):
    """As they were streamed, while the job ran."""
    assert len(transcript.trained.previews) == STEPS // 100
    assert len(transcript.drawn.previews) == 10
    for picture in [*transcript.trained.previews, *transcript.drawn.previews]:
        assert np.asarray(picture.convert("L")).std() > 20


def test_digits_emerge_from_noise(transcript: Transcript):
    """Each picture is nearer to the last one than those before it, and the last is the output."""
    *unfinished, last = (np.asarray(p.convert("L"), float) for p in transcript.drawn.previews)
    distances = [float(np.abs(picture - last).mean()) for picture in unfinished]
    assert all(nearer < farther for farther, nearer in pairwise(distances))
    grid = np.asarray(image_of(transcript.drawn.output["grid"]).convert("L"), float)
    caption_height = last.shape[0] - grid.shape[0]
    assert np.abs(grid - last[: len(last) - caption_height]).mean() < distances[-1] + 5


def test_each_rank_draws_with_noise_of_its_own(transcript: Transcript):
    """Two ranks asked for the same digit draw it in two ways."""
    sevens = ink_of(transcript.sevens)
    assert transcript.sevens.output["labels"] == [7] * 16
    assert len(np.unique(sevens.reshape(16, -1), axis=0)) == 16


def test_the_checkpoint_is_where_the_output_says(transcript: Transcript):
    """In the folder that whoever started the worker chose, under the name that the job gave."""
    path = Path(transcript.trained.output["path"])
    assert path == transcript.folder / "learnt.pt"
    assert path.stat().st_size > 1_000_000


def test_a_training_that_is_cancelled_stops_and_leaves_no_checkpoint(transcript: Transcript):
    """On both ranks at the same step: neither waits for the other in a collective."""
    assert transcript.cancelled[-1].data["state"] == "cancelled"
    assert max(event.data["step"] for event in transcript.cancelled if event.is_result) < 20_000
    assert not (transcript.folder / "cancelled.pt").exists()


def test_a_checkpoint_that_is_not_there_is_named(transcript: Transcript):
    """The error says what to do, not only that a file is missing."""
    assert "no checkpoint 'never-trained'" in str(transcript.refused)
    assert "digits-train" in str(transcript.refused)
