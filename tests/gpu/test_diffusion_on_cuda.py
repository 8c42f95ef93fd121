"""The diffusion examples on a GPU, through the whole system."""

from pathlib import Path

from commands import Up

from rankcast import Client

DIFFUSION = Path(__file__).parents[2] / "examples" / "diffusion"


def test_an_adapter_is_trained_and_drawn_with_on_the_gpu(tmp_path: Path):
    """Two ranks, which share the GPU where there is only one."""
    files = ["--tasks", DIFFUSION / "sdxl.py", "--tasks", DIFFUSION / "lora.py"]
    with Up(*files, cwd=tmp_path, RANKCAST_SHARE_GPU="1") as up:
        with Client(up.url) as client:
            assert client.workers()[0]["slots"][0]["devices"]
            trained = client.submit("examples/sdxl-lora", prompt="a disc", steps=60).result(100)
            drawn = client.submit("examples/sdxl", prompt="a disc", lora=trained["lora"]).result(100)
            pictures = [client.download(each, tmp_path / "picture").read_bytes() for each in drawn["images"]]
        assert len(set(trained["weights_sha256"])) == 1
        assert [picture[:4] for picture in pictures] == [b"\x89PNG"] * 2
        assert len(set(pictures)) == 2
        assert up.stop() == 0, up.told
