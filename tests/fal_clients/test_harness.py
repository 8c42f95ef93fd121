import ssl

import httpx

from fal_clients.programs import System


def test_the_system_answers_over_tls(system: System) -> None:
    trusted = ssl.create_default_context(cafile=system.env["SSL_CERT_FILE"])
    tasks = httpx.get(f"{system.web.url}/tasks", verify=trusted).json()["tasks"]
    assert "acme/steps" in {task["name"] for task in tasks}
    job_id = system.site.submit("acme/steps", {"prompt": "x"})
    assert system.site.wait_ended(job_id).state == "succeeded"
