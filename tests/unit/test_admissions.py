"""Who is let in as somebody before: only who asks the same."""

from typing import Any

import pytest

from rankcast.web.admissions import DECIDING, MOST, Admission, Admissions

ASKED: dict[str, Any] = {
    **{name: name.lower() for name in DECIDING},
    "QUERY_STRING": "",
    "HTTP_LAST_EVENT_ID": "1-1",
    "HTTP_USER_AGENT": "one",
}
LET_IN = Admission("200 OK", [("Content-Type", "text/event-stream")], None)


def test_who_asks_the_same_is_found_whatever_else_differs() -> None:
    admissions = Admissions()
    assert admissions.find(ASKED) is None
    admissions.note(ASKED, LET_IN)
    assert admissions.find({**ASKED, "HTTP_LAST_EVENT_ID": "1-2", "HTTP_USER_AGENT": "another"}) is LET_IN


@pytest.mark.parametrize("name", DECIDING)
def test_who_asks_anything_else_is_not(name: str) -> None:
    admissions = Admissions()
    admissions.note(ASKED, LET_IN)
    assert admissions.find({**ASKED, name: "another"}) is None
    assert admissions.find({key: value for key, value in ASKED.items() if key != name}) is None


def test_a_query_is_asked_about_each_time() -> None:
    admissions = Admissions()
    admissions.note({**ASKED, "QUERY_STRING": "token=t"}, LET_IN)
    assert admissions.find({**ASKED, "QUERY_STRING": "token=t"}) is None
    admissions.note(ASKED, LET_IN)
    assert admissions.find({**ASKED, "QUERY_STRING": "from=now"}) is None


def test_they_are_bounded() -> None:
    admissions = Admissions()
    for number in range(2 * MOST):
        admissions.note({**ASKED, "HTTP_HOST": f"host{number}"}, LET_IN)
    found = [admissions.find({**ASKED, "HTTP_HOST": f"host{number}"}) for number in range(2 * MOST)]
    assert found.count(LET_IN) == MOST
