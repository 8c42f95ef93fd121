"""Cursors that no client would send: a `reset` or a refusal, never another job's events, never a 500."""

import socket
from urllib.parse import quote, urlsplit

import httpx
import pytest
from jobs import SUCCESS, append, running

from rankcast.tasks.eventlog import EventLog
from rankcast.tasks.job import Claim
from rankcast.tasks.store import JobStore

SECRET = b"another job's"
#: As bytes of a header field. The server itself refuses what HTTP does not allow, or over 8 KiB.
HEADERS = {
    "10 kB": b"1-" + b"7" * 10_000,
    "a NUL": b"1-1\x00",
    "a NUL alone": b"\x00",
    "a bare CR": b"1-1\rX-Other: 1",
    "UTF-8": "１-１".encode(),
    "no UTF-8": b"\xff\xfe",
    "a tab inside": b"1-\t1",
    "a seq of zero": b"1-0",
}

#: As text of a query parameter, where every byte can be written.
IN_URLS = {
    "a NUL": "1-1\0",
    "a NUL alone": "\0",
    "other digits": "１-１",
    "no UTF-8": "\udcff",
    "a dash": "-",
    "a line end": "1-1\r\nX: 1",
    "3 kB": "7" * 3_000,
    "10 kB": "7" * 10_000,
}


@pytest.fixture
def claim(store: JobStore, event_log: EventLog) -> Claim:
    """A job that has ended, beside another one with a longer log that nobody here asks for."""
    other, claim = running(store), running(store)
    append(event_log, other, 2, *[b'"%b"' % SECRET] * 200)
    append(event_log, claim, 2, '"mine"')
    store.finish(claim, SUCCESS, 2)
    return claim


def raw_answer(url: str, path: str, cursor: bytes) -> bytes:
    """What comes back for a request that no client library would send."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as client:
        head = b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" % path.encode()
        client.sendall(head + b"Last-Event-ID: " + cursor + b"\r\n\r\n")
        answer = bytearray()
        while data := client.recv(65536):
            answer += data
    return bytes(answer)


def is_harmless(status: int, body: bytes) -> bool:
    """A refusal, or a reset and the whole log of the job that was asked for."""
    if status in (400, 414, 431):
        return SECRET not in body
    told = body.count(b"event: reset") == 1 and body.count(b'data: "mine"') == 1
    return status == 200 and told and SECRET not in body


@pytest.mark.parametrize("cursor", HEADERS.values(), ids=HEADERS.keys())
def test_a_hostile_header_is_refused_or_reset(web: str, claim: Claim, cursor: bytes) -> None:
    answer = raw_answer(web, f"/jobs/{claim.job_id}/stream", cursor)
    assert is_harmless(int(answer.split(b" ", 2)[1]), answer), answer[:500]


@pytest.mark.parametrize("cursor", IN_URLS.values(), ids=IN_URLS.keys())
def test_a_hostile_cursor_in_the_url_is_refused_or_reset(web: str, claim: Claim, cursor: str) -> None:
    query = quote(cursor, errors="surrogateescape")
    response = httpx.get(f"{web}/jobs/{claim.job_id}/stream?last_event_id={query}")
    assert is_harmless(response.status_code, response.content), response.content[:500]


def test_the_process_serves_on_after_all_of_them(web: str, claim: Claim) -> None:
    for cursor in HEADERS.values():
        raw_answer(web, f"/jobs/{claim.job_id}/stream", cursor)
    response = httpx.get(f"{web}/jobs/{claim.job_id}/stream")
    assert (response.status_code, response.content.count(b'data: "mine"')) == (200, 1)
