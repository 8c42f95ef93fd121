"""fal's hosts are folders of one server, and whatever goes wrong there is told in fal's form."""

import httpx
import pytest

LOST = "/rest/no/such/route"


def test_a_url_of_fals_in_the_proxys_header_is_where_the_request_goes(web: str) -> None:
    """`/api/fal/proxy` with a header is the same as the path here: the same route answers."""
    target = {"x-fal-target-url": "https://rest.fal.ai/no/such/route?a=1"}
    assert httpx.get(f"{web}/api/fal/proxy", headers=target).json() == httpx.get(f"{web}{LOST}").json()


def test_a_host_of_fals_is_a_folder(web: str) -> None:
    by_host = httpx.get(f"{web}/no/such/route", headers={"Host": "rest.fal.ai:443"})
    assert (by_host.status_code, by_host.json()) == (404, httpx.get(f"{web}{LOST}").json())


@pytest.mark.parametrize("target", [None, "https://example.com/x", "http://[", "fal.run/acme/steps", ""])
def test_what_the_proxy_cannot_place_is_refused(web: str, target: str | None) -> None:
    headers = {} if target is None else {"x-fal-target-url": target}
    answer = httpx.post(f"{web}/api/fal/proxy", headers=headers)
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")
    assert "x-fal-target-url" in answer.json()["detail"] or repr(target) in answer.json()["detail"]
    assert answer.headers["x-fal-request-id"]
    assert answer.headers["X-Fal-Error-Type"] == "bad_request"


def test_another_name_is_refused_also_through_the_proxy(web: str) -> None:
    """A page whose name was made to mean this machine could set the header, too."""
    headers = {"Host": "evil.example", "x-fal-target-url": "https://queue.fal.run/acme/steps"}
    answer = httpx.post(f"{web}/api/fal/proxy", headers=headers)
    assert (answer.status_code, answer.json()["error_type"]) == (403, "forbidden")
    assert "evil.example" in answer.json()["detail"]
