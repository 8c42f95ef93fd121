"""Requests for one job's stream that Flask has let in, so that it need not be asked about the same again.

A crowd asks in the same few words, and Flask takes longer over them than all else that a viewer costs.
Nothing is decided here: what was decided of a request holds for another that differs in nothing that the
decision was made from, as long as the key that it showed is what it was.  Pure.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rankcast.web.keyring import ApiKey

#: Of a WSGI environment, all that the decision and the head of the answer are made from; a test holds the
#: routes to it. The cursor says no more than where to begin.
DECIDING = (
    *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO"),
    *("HTTP_AUTHORIZATION", "HTTP_HOST", "HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE"),
    *("HTTP_ACCESS_CONTROL_REQUEST_METHOD", "HTTP_CONNECTION", "HTTP_UPGRADE"),
)
#: Kinds of requests that one job's viewers make; of others Flask is asked each time.
MOST = 256

Headers = list[tuple[str, str]]


class Admission(NamedTuple):
    """How the answer begins, and whose key let it in; None where nobody has one."""

    status: str
    headers: Headers
    key: ApiKey | None


class Admissions:
    """Those of one job."""

    def __init__(self) -> None:
        self._found: dict[tuple[str | None, ...], Admission] = {}

    def note(self, environ: Mapping[str, Any], admission: Admission) -> None:
        # A query may have a token, which runs out.
        if not environ["QUERY_STRING"] and len(self._found) < MOST:
            self._found[_asked(environ)] = admission

    def find(self, environ: Mapping[str, Any]) -> Admission | None:
        return None if environ["QUERY_STRING"] else self._found.get(_asked(environ))


def _asked(environ: Mapping[str, Any]) -> tuple[str | None, ...]:
    return tuple([environ.get(name) for name in DECIDING])
