"""The JavaScript client over HTTP: pages anywhere may load it, and never run an old one."""

import httpx
import pytest

from rankcast.web.static import CONTENT_TYPES, FOLDER


@pytest.mark.parametrize("name", CONTENT_TYPES)
def test_a_file_of_the_client_is_served_as_it_lies_there(web: str, name: str) -> None:
    """With a type that browsers run modules of, and for pages of any origin."""
    response = httpx.get(f"{web}/static/{name}", headers={"Origin": "http://elsewhere.example"})
    assert response.status_code == 200
    assert response.content == (FOLDER / name).read_bytes()
    assert response.headers["Content-Type"] == f"{CONTENT_TYPES[name]}; charset=utf-8"
    assert response.headers["Access-Control-Allow-Origin"] == "*"


def test_a_browser_that_has_the_client_is_told_so(web: str) -> None:
    """It asks each time, because a page must not run a client from before a deploy."""
    first = httpx.get(f"{web}/static/rankcast.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = httpx.get(f"{web}/static/rankcast.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["Access-Control-Allow-Origin"] == "*"


def test_no_other_route_is_open_to_other_origins(web: str) -> None:
    """Whoever reads jobs from a page of another origin needs more than this."""
    for path in ("/jobs", "/tasks", "/workers", "/healthz", "/static/none.js"):
        response = httpx.get(f"{web}{path}", headers={"Origin": "http://elsewhere.example"})
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("path", ["none.js", "../app.py", "%2e%2e/app.py", "package.json", ".."])
def test_nothing_else_is_served(web: str, path: str) -> None:
    """Only names that are listed; what a URL says is never part of a path."""
    assert httpx.get(f"{web}/static/{path}").status_code == 404
