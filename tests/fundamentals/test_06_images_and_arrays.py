"""What models produce can be streamed as it is."""

import base64
import io

from PIL import Image

from rankcast import Client


def picture(value: dict[str, object]) -> Image.Image:
    head, _, data = str(value["url"]).partition(",")
    assert head == f"data:{value['content_type']};base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_images_come_as_data_urls(client: Client):
    job = client.submit("tutorial/gallery")
    first = next(event for event in job.stream() if event.is_result)
    assert first.data["preview"]["content_type"] == "image/png"
    assert picture(first.data["preview"]).getpixel((0, 0)) == (255, 0, 0)
    assert picture(job.result(timeout_s=60)).size == (4, 2)


def test_tensors_and_arrays_name_their_shape(client: Client):
    job = client.submit("tutorial/gallery")
    _, arrays, numbers = [event.data for event in job.stream() if event.is_result]
    assert arrays["latents"]["shape"] == [2, 3]
    assert arrays["mask"]["dtype"] == "uint8"
    assert numbers == {"loss": 0.5, "nothing": None}
