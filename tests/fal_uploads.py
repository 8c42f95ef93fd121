"""fal's storage in plain HTTP; `from fal_uploads import ...`."""

from pathlib import Path
from typing import Any

import httpx

TOKEN, CDN = "/rest/storage/auth/token?storage_type=fal-cdn-v3", "/cdn/files/upload"
INITIATE = "/rest/storage/upload/initiate?storage_type=fal-cdn-v3"
#: What fal's clients send again, whatever it was about.
SENT_AGAIN = {408, 409, 429, 502, 503, 504}


def left_in(shared: Path) -> set[str]:
    folder = shared / "files"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def refused(response: httpx.Response, status: int) -> str:
    """The detail of a refusal in fal's form, which no client answers by sending the same again."""
    body = response.json()
    assert (response.status_code, body["error_type"]) == (status, response.headers["X-Fal-Error-Type"]), body
    assert response.headers["x-fal-request-id"]
    assert status not in SENT_AGAIN
    assert isinstance(body["detail"], str)
    return str(body["detail"])


def initiated(http: httpx.Client, name: str = "cat.png", **request: Any) -> tuple[str, str]:
    """Both URLs of an upload that begins."""
    asked = {"file_name": name, "content_type": "image/png"}
    answer = http.post(INITIATE, json=asked, **request)
    assert answer.status_code == 200, answer.text
    return answer.json()["upload_url"], answer.json()["file_url"]
