"""The digits example on a GPU, through the whole system."""

from pathlib import Path

from commands import Up

from rankcast import Client

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


def test_digits_train_and_draw_on_the_gpu(tmp_path: Path):
    """Two ranks, which share the GPU where there is only one."""
    files = ["--tasks", DIGITS / "train.py", "--tasks", DIGITS / "generate.py"]
    with Up(*files, cwd=tmp_path, RANKCAST_SHARE_GPU="1") as up:
        with Client(up.url) as client:
            assert client.workers()[0]["slots"][0]["devices"]
            trained = client.submit("examples/digits-train", steps=200).result(100)
            drawn = client.submit("examples/digits-generate", rows=2).result(100)
        assert len(set(trained["weights_sha256"])) == 1
        assert drawn["grid"]["url"].startswith("data:image/")
        assert up.stop() == 0, up.told
