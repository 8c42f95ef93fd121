"""fal's ids of apps: `owner/alias`, and below it the path of an endpoint.  Pure.

A submit names the whole id; status, result and cancel know `owner/alias` alone. Here the task is
`owner/alias`, and an endpoint of it is a task of the longer name.
"""

from typing import NamedTuple

#: What a last segment on `run` asks for: not a part of the id.
STREAM, REALTIME = "stream", "realtime"


class AppId(NamedTuple):
    """The parts of an id; `path` is '' or an endpoint such as `upscale` or `train/fast`."""

    owner: str
    alias: str
    path: str = ""

    @property
    def app(self) -> str:
        """`owner/alias`, by which a request is asked for again."""
        return f"{self.owner}/{self.alias}"

    @property
    def task(self) -> str:
        """The name of the task that it runs."""
        return f"{self.app}/{self.path}" if self.path else self.app


def parse(text: str) -> AppId | None:
    """The id in a path of a URL, slashes at its ends left out; None for one that is too short."""
    owner, _, rest = text.strip("/").partition("/")
    alias, _, path = rest.partition("/")
    return AppId(owner, alias, path.strip("/")) if owner and alias else None


def without_last(app_id: AppId) -> tuple[AppId, str]:
    """The id without the last segment of its endpoint's path, and that segment; '' if it has none."""
    path, _, last = app_id.path.rpartition("/")
    return app_id._replace(path=path), last


def app_of(task: str) -> str:
    """`owner/alias` of a task's name."""
    return "/".join(task.split("/")[:2])
