"""The checker alone: a sound job passes, and each thing that may be wrong with one is told."""

import json
from dataclasses import replace
from typing import Any

import pytest

from chaos.checker import Job, Told, Watched, ran_beside_itself, story, violations
from chaos.notes import Note, result

ID, CALL, FIRST = "j1", "c2", "c1"


def told(event_id: str, kind: str, data: Any) -> Told:
    return Told(id=event_id, kind=kind, data=json.dumps(data))


def noted(call: str, what: str, n: int = 0) -> Note:
    return Note(what, "Steps", 0, 7, ID, 1 + (call == CALL), call, n)


#: The first attempt lost its worker after it had told one of two things; the second succeeded.
LOG = [
    told("0-1", "state", {"state": "queued"}),
    told("5-1", "state", {"state": "starting"}),
    told("5-2", "state", {"state": "running", "attempt": 1}),
    told("5-3", "", result(ID, FIRST, 0)),
    told("5-4", "state", {"state": "queued"}),
    told("9-1", "state", {"state": "starting"}),
    told("9-2", "state", {"state": "running", "attempt": 2}),
    told("9-3", "", result(ID, CALL, 0)),
    told("9-4", "", result(ID, CALL, 1)),
    told("9-5", "end", {"state": "succeeded"}),
]
NOTES = [
    *[noted(FIRST, what, n) for n in range(2) for what in ("telling", "told")],
    *[noted(CALL, what, n) for n in range(2) for what in ("telling", "told")],
    noted(CALL, "returned", 2),
]
SOUND = Job(
    job_id=ID,
    task="chaos/steps",
    state="succeeded",
    losses=1,
    output={"job": ID, "call": CALL, "told": 2},
    log=LOG,
    notes=NOTES,
    viewers=[Watched(frames=LOG, is_complete=True)],
)


def changed(log: list[Told], **more: Any) -> Job:
    """A job with that log, of which every viewer was told the same."""
    return replace(SOUND, log=log, viewers=[Watched(frames=log, is_complete=True)], **more)


def watched(frames: list[Told], *, is_complete: bool = True) -> Job:
    return replace(SOUND, viewers=[Watched(frames=frames, is_complete=is_complete)])


def test_a_sound_job_passes():
    """What an attempt told that was lost is in the log as far as it got there."""
    assert violations([SOUND]) == []


def test_a_viewer_that_was_told_of_a_reset_may_see_all_again():
    """What it saw before belongs to a history that is gone."""
    gone = told("5-9", "", {"gone": True})
    reset = told("0-0", "reset", {"message": "..."})
    assert violations([watched([*LOG[:4], gone, reset, *LOG])]) == []


def test_a_job_that_lost_too_many_workers_may_fail():
    """So it was promised."""
    error = {"kind": "worker_lost", "message": "..."}
    log = [*LOG[:5], told("5-5", "end", {"state": "failed"})]
    failed = changed(log, state="failed", losses=3, output=None, error=error)
    assert violations([failed]) == []
    assert "failed with worker_lost after 2 losses" in violations([replace(failed, losses=2)])[0]


#: The second attempt raised; the first, whose worker had stood still, did so after it, and nobody heard.
FAILED = changed(
    [*LOG[:-1], told("9-5", "end", {"state": "failed"})],
    task="chaos/fails",
    state="failed",
    output=None,
    error={"kind": "exception", "message": f"as planned, {CALL}"},
    notes=[*NOTES[:-1], noted(CALL, "raised"), noted(FIRST, "raised")],
)


def test_a_failed_job_is_judged_by_the_call_that_its_error_names():
    """Whichever call raised last."""
    assert violations([FAILED]) == []


def test_the_story_of_a_job_has_its_log_and_its_notes_in_order_of_time():
    """They were written by several processes."""
    late, early = noted(CALL, "raised")._replace(at_ns=2), noted(FIRST, "told")._replace(at_ns=1)
    lines = story(replace(FAILED, notes=[late, early])).splitlines()
    assert lines[0].startswith(f"job {ID} (chaos/fails) is failed")
    assert "9-5 end" in lines[11]
    assert [line.split(": ")[1] for line in lines[-2:]] == ["told 0 ", "raised 0 "]


@pytest.mark.parametrize(
    ("job", "fault"),
    [
        (replace(FAILED, log=[*FAILED.log[:8], told("9-4", "end", {"state": "failed"})]), "2 results of its"),
        (replace(FAILED, error={"kind": "exception", "message": "peer closed"}), "is of no call"),
        (replace(SOUND, state=None), "was accepted, and is not there"),
        (replace(SOUND, state="running"), "never ended, it is running"),
        (changed([*LOG, told("9-6", "", result(ID, CALL, 1))]), "has 1 ends, and a result is its last event"),
        (changed([*LOG, told("9-6", "end", {"state": "succeeded"})]), "has 2 ends"),
        (changed(LOG[:-1]), "has 0 ends"),
        (changed([*LOG[:-1], told("9-5", "end", {"state": "failed"})]), "its stream says failed"),
        (replace(SOUND, is_cancelled=True), "a cancel was acknowledged"),
        (
            changed([*LOG[:-1], told("9-5", "end", {"state": "cancelled"})], state="cancelled"),
            "nobody asked for it",
        ),
        (replace(SOUND, task="chaos/fails"), "succeeded, and must fail"),
        (changed(LOG[1:]), "its log begins with 5-1"),
        (changed([*LOG[:7], *LOG[8:]]), "its log goes from 9-2 to 9-4"),
        (
            changed([*LOG[:5], told("9-2", "state", {"state": "running", "attempt": 2}), *LOG[7:]]),
            "its log goes from 5-4 to 9-2",
        ),
        (
            changed([*LOG[:7], told("5-5", "", result(ID, FIRST, 1)), *LOG[7:]]),
            "its log goes from 9-2 to 5-5",
        ),
        (changed([*LOG[:8], told("9-4", "", result(ID, CALL, 0)), LOG[9]]), "not the first that it told"),
        (changed([*LOG[:8], told("9-4", "", {"call": "c9"}), LOG[9]]), "results of c9, which nobody told"),
        (changed([*LOG[:8], told("9-4", "end", {"state": "succeeded"})]), "2 results of its last call"),
        (replace(SOUND, output={"job": ID, "call": CALL, "told": 1}), "is not what its call returned"),
        (replace(SOUND, output={"job": ID, "call": "c9", "told": 2}), "is of no call"),
        (replace(SOUND, notes=[*NOTES, noted(CALL, "resumed", 4)]), "began at 4, and 0 was announced"),
        (watched(LOG[:-1], is_complete=False), "was told 9 events and never the end"),
        (watched([*LOG[:4], *LOG[5:]]), "was told 9 events where the log has 10, and differs at 9-1"),
        (watched([*LOG[:4], LOG[3], *LOG[4:]]), "was told 11 events where the log has 10"),
        (watched([*LOG[:3], replace(LOG[3], data="{}"), *LOG[4:]]), "differs at 5-3"),
        (watched([told("0-0", "reset", {}), *LOG[4:]]), "after a reset, and differs"),
    ],
)
def test_what_is_wrong_is_told(job: Job, fault: str):
    """One fault each, as a shortest example."""
    found = violations([job])
    assert [line for line in found if fault in line] != [], found


def test_attempts_that_were_at_work_at_the_same_time_are_seen():
    """One inside the other as well; one behind the other is none."""

    def spans(*times: tuple[str, int]) -> list[Note]:
        return [noted(call, "telling")._replace(at_ns=at_ns) for call, at_ns in times]

    assert not ran_beside_itself(spans((FIRST, 1), (FIRST, 3), (CALL, 4), (CALL, 6)))
    assert ran_beside_itself(spans((FIRST, 1), (FIRST, 5), (CALL, 4), (CALL, 6)))
    assert ran_beside_itself(spans((CALL, 2), (CALL, 3), (FIRST, 1), (FIRST, 9)))
