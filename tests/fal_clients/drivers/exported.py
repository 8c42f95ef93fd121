"""What fal's Python client does with nothing but an environment."""

import json

import fal_client
import httpx

STEPS = {"prompt": "a cat", "steps": 2}

uploaded = fal_client.upload(b"hello", "text/plain")
told = {
    "ran": fal_client.run("examples/steps", STEPS),
    "submitted": fal_client.submit("examples/steps", STEPS).get(),
    "uploaded": uploaded,
    "content": httpx.get(uploaded).text,
}
print(json.dumps(told))
