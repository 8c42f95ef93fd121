"""URLs of files: absolute for fal's clients, paths of this server in inputs and outputs.  Pure.

A job's input and output name a file by `/files/<id>/<name>` or `/jobs/<id>/artifacts/<name>`, whatever
the server is called. fal's clients open a URL as it stands, and send back what they were given.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from rankcast.tasks.artifacts import STORED_NAME
from rankcast.tasks.disk import JOB_ID, NAME
from rankcast.tasks.uploads import ID
from rankcast.web.tokens import ARTIFACTS, FILE, Purpose

_PATH = (
    rf"/files/(?P<file_id>{ID.pattern})/{NAME.pattern}"
    rf"|/jobs/(?P<job_id>{JOB_ID.pattern})/artifacts/{STORED_NAME.pattern}"
)
_PLAIN = re.compile(_PATH, re.ASCII)
#: Behind a base. The token is not needed any more: the job's own key opens the file.
_BELOW = re.compile(rf"(?P<path>{_PATH})(\?token=[\w.-]*)?", re.ASCII)
#: A whole string of a JSON text, and no name of a member. A quote inside a string has a backslash before it.
_IN_JSON = re.compile(rf'(?<!\\)"(?P<path>{_PATH})"(?!\s*:)'.encode())
_PREFIXES = (b'"/files/', b'"/jobs/')

#: Makes a token, or '' where none is needed: auth.signer.
Sign = Callable[[Purpose, str], str]


def absolute(path: str, base: str, sign: Sign) -> str:
    """The URL that opens the file at `path` to whoever has it; `base` is the server's, without `/` at its
    end. ValueError for what is no path of a file."""
    found = _PLAIN.fullmatch(path)
    if found is None:
        raise ValueError(f"{path!r} is not where a file is")
    token = sign(FILE, found["file_id"]) if found["file_id"] else sign(ARTIFACTS, found["job_id"])
    return f"{base}{path}?token={token}" if token else base + path


def all_absolute(json_text: bytes, base: str, sign: Sign) -> bytes:
    """A JSON text in which every string that is the path of a file is its URL. Nothing is parsed: it may
    have megabytes, and mostly no file."""
    if not any(prefix in json_text for prefix in _PREFIXES):
        return json_text
    return _IN_JSON.sub(lambda found: orjson.dumps(absolute(found["path"].decode(), base, sign)), json_text)


def relative(url: str, bases: Iterable[str]) -> str:
    """The path of a file that is below one of the bases, which have no scheme (`example.com/rankcast`: a
    proxy may have taken TLS off); any other text as it is."""
    if not url.startswith(("http://", "https://")):
        return url
    _, _, rest = url.partition("://")
    for base in bases:
        if rest.startswith(base) and (found := _BELOW.fullmatch(rest, len(base))):
            return found["path"]
    return url


def all_relative(value: Any, bases: Iterable[str]) -> None:
    """Turn the URLs in a JSON value into such paths, in place, however deep they lie."""
    left = [value]
    while left:
        holder = left.pop()
        items = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for place, inner in items:
            if isinstance(inner, str):
                holder[place] = relative(inner, bases)
            elif isinstance(inner, (dict, list)):
                left.append(inner)
