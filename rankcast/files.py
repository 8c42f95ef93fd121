"""Downloads that go on where they broke off.

A file is written under a hidden name beside its own and renamed when it is complete, so nobody sees
half of it.
"""

import base64
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from rankcast.errors import RankcastError
from rankcast.follow import PASSING, Patience
from rankcast.http_io import Answer, whole
from rankcast.refusals import refuse
from rankcast.transport import Transport

#: What tasks return and stream in the place of a large value; it has `url`, and mostly `file_name`.
Reference = Mapping[str, Any] | str


async def download(
    transport: Transport, reference: Reference, path: str | os.PathLike[str], timeout_s: float | None
) -> Path:
    """Write what `reference` stands for to `path`, or into the directory `path`; the file's path.

    A directory whose name ends in `/` is made if it is not there.
    TimeoutError where it is not there after `timeout_s`.
    """
    patience = Patience.of(timeout_s, sleep=transport.sleep)
    url = reference if isinstance(reference, str) else str(reference["url"])
    target = Path(path)
    if os.fspath(path).endswith("/"):
        target.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        target /= _name_of(reference, url)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            if url.startswith("data:"):
                file.write(_inline(url))
            else:
                await _fetch(transport, url, file, patience)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


async def _fetch(transport: Transport, url: str, file: IO[bytes], patience: Patience) -> None:
    """The whole of it, over as many connections as it takes; each begins where the last one broke."""
    version: dict[str, str] = {}
    while True:
        headers = {"Accept-Encoding": "identity"}
        if file.tell():
            headers |= {"Range": f"bytes={file.tell()}-"} | version
        try:
            async with transport.open(url, headers, patience.left_s()) as answer:
                if await _begins(answer, file):
                    version = _version(answer)
                    while chunk := await answer.chunk():
                        # Not before: a server that lost the rest of the file would be asked for ever.
                        patience.connected()
                        patience.heard()
                        file.write(chunk)
                return
        except PASSING as error:
            lost = error
        await patience.lost(lost)


async def _begins(answer: Answer, file: IO[bytes]) -> bool:
    """Go to where the answer's body belongs in the file; false where the file has all of it already."""
    told = answer.headers.get("Content-Range", "")
    if answer.status_code == 206 and told.startswith(f"bytes {file.tell()}-"):
        return True
    if answer.status_code == 416 and told == f"bytes */{file.tell()}":
        return False
    if answer.status_code == 206:
        raise RankcastError(f"the server sent another part of the file than was asked for: {told[:80]!r}")
    if answer.status_code != 200:
        refuse(await whole(answer))
    # Not the part that was asked for but all of it: it was written anew meanwhile.
    file.seek(0)
    file.truncate()
    return True


def _version(answer: Answer) -> dict[str, str]:
    """The header that lets a later part only be one of the same version; RFC 9110, section 13.1.5."""
    tag = answer.headers.get("ETag", "W/")
    known = answer.headers.get("Last-Modified") if tag.startswith("W/") else tag
    return {} if known is None else {"If-Range": known}


def _inline(url: str) -> bytes:
    """The bytes of a data URL; RFC 2397."""
    head, _, data = url.partition(",")
    return base64.b64decode(unquote(data)) if head.endswith(";base64") else unquote_to_bytes(data)


def _name_of(reference: Reference, url: str) -> str:
    """A file name without a way to leave its directory."""
    told = "" if isinstance(reference, str) else str(reference.get("file_name") or "")
    if not told and not url.startswith("data:"):
        told = unquote(urlsplit(url).path)
    return plain_name(told)


def plain_name(name: str) -> str:
    """The last part of a path of any system; `file` for what has none."""
    last = re.split(r"[/\\]", name)[-1].replace("\0", "")
    return "file" if last in ("", ".", "..") else last
