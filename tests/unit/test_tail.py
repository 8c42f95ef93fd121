"""The newest events of a job in a web process, whatever pub/sub does to them."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from rankcast.tasks.event import END, RESULT, START, Event, EventId
from rankcast.tasks.live import Batch
from rankcast.web.tail import CHUNK_BYTES, Room, Tail


def events(first: int, last: int, *, fence: int = 1, data: bytes = b"{}") -> list[Event]:
    """Events `fence-first` to `fence-last`."""
    return [
        Event(EventId(fence, seq), EventId(fence, seq - 1) if seq > 1 else START, RESULT, data)
        for seq in range(first, last + 1)
    ]


def batch(first: int, last: int, **options: int) -> Batch:
    return Batch.of(events(first, last, **options))


def tail_of(*batches: Batch) -> Tail:
    tail = Tail()
    for each in batches:
        tail.add(each)
    return tail


def seqs(batches: Sequence[Batch] | None) -> list[int] | None:
    return None if batches is None else [event.id.seq for each in batches for event in each.events]


def test_a_new_tail_sends_its_viewer_to_the_log() -> None:
    """Nothing heard yet says nothing about what the log holds."""
    assert Tail().after(START) is None


def test_a_viewer_at_the_newest_event_has_nothing_to_read() -> None:
    """Not even of the log: this is how an idle viewer costs nothing."""
    assert tail_of(batch(1, 3)).after(EventId(1, 3)) == []


def test_a_viewer_one_batch_behind_gets_the_very_bytes_made_for_all() -> None:
    """The bytes of a frame are made once a process, however many viewers there are."""
    last = batch(4, 6)
    tail = tail_of(batch(1, 3), last)
    (got,) = tail.after(EventId(1, 3)) or []
    assert got is last
    assert got.frames is last.frames


def test_a_cursor_inside_a_batch_gets_the_rest_of_it() -> None:
    """Clients come back with the id of any event, not only of a batch's last."""
    assert seqs(tail_of(batch(1, 3), batch(4, 6)).after(EventId(1, 2))) == [3, 4, 5, 6]


def test_a_cursor_before_the_tail_is_sent_to_the_log() -> None:
    """What the tail no longer holds, the log does."""
    assert tail_of(batch(4, 6)).after(EventId(1, 2)) is None


def test_a_hole_starts_the_tail_afresh() -> None:
    """Events 4 to 6 were published and not heard: who needs them must read the log."""
    tail = tail_of(batch(1, 3), batch(7, 9))
    assert tail.after(EventId(1, 3)) is None
    assert seqs(tail.after(EventId(1, 6))) == [7, 8, 9]


def test_a_seam_between_attempts_is_a_hole_unless_prev_says_otherwise() -> None:
    """`2-1` looks like a first event; only its `prev` tells that 1-4 came before it."""
    opened = Event(EventId(2, 1), EventId(1, 4), RESULT, b"{}")
    tail = tail_of(batch(1, 3), Batch.of([opened]))
    assert tail.after(EventId(1, 3)) is None
    assert tail.after(EventId(1, 4)) is not None


def test_a_message_heard_twice_changes_nothing() -> None:
    """An append may be repeated, and a repair may have been quicker than the channel."""
    tail = tail_of(batch(1, 3), batch(4, 6), batch(1, 3), batch(4, 6))
    assert seqs(tail.after(EventId(1, 1))) == [2, 3, 4, 5, 6]


def test_a_cursor_that_no_event_has_is_sent_to_the_log() -> None:
    """After a loss of Redis a cursor may lie between two events of a newer history."""
    follows_a_lost_one = Batch.of([Event(EventId(2, 1), EventId(1, 2), RESULT, b"{}")])
    tail = tail_of(batch(1, 2), follows_a_lost_one)
    assert tail.after(EventId(1, 9)) is None


def test_a_batch_without_its_frames_is_read_from_the_log() -> None:
    """One with a large event is published so; nobody may skip it."""
    tail = tail_of(batch(1, 3), Batch(EventId(1, 3), EventId(1, 4), b"", has_end=False))
    assert tail.after(EventId(1, 3)) is None
    assert tail.after(EventId(1, 4)) == []
    tail.add(batch(5, 6))
    assert seqs(tail.after(EventId(1, 4))) == [5, 6]


def test_a_tail_is_bounded_in_bytes() -> None:
    """The oldest batches go; a viewer that needed them reads the log."""
    tail = Tail(Room(3 * batch(1, 1).size))
    for seq in range(1, 6):
        tail.add(batch(seq, seq))
    assert tail.after(EventId(1, 1)) is None
    assert seqs(tail.after(EventId(1, 2))) == [3, 4, 5]


def test_the_tails_of_a_process_share_what_there_is() -> None:
    room = Room(30 * batch(30, 30).size)
    tails = [Tail(room) for _ in range(3)]
    for tail in tails[:2]:
        for seq in range(1, 31):
            tail.add(batch(seq, seq))
    assert seqs(tails[0].after(START)) == list(range(1, 31))
    room.share_among(3)
    # One that hears of nothing is trimmed where its silence is noticed.
    tails[0].trim()
    tails[1].add(batch(31, 31))
    for tail, first in ((tails[0], 21), (tails[1], 22)):
        assert tail.after(EventId(1, first - 2)) is None
        assert len(seqs(tail.after(EventId(1, first - 1)))) == 10
    room.share_among(1)
    assert room.bytes_each == 30 * batch(30, 30).size


def test_a_tail_keeps_its_newest_batch_however_large() -> None:
    """Else a live viewer of large events would read each of them from the log."""
    tail = Tail(Room(1))
    tail.add(batch(1, 3))
    assert seqs(tail.after(START)) == [1, 2, 3]


def test_a_viewer_is_given_a_bounded_piece_at_once() -> None:
    """One that is far behind must not hold up the others, nor make one huge write."""
    tail = Tail(Room(100 * CHUNK_BYTES))
    batches = [Batch.of(events(seq, seq, data=b"x" * (CHUNK_BYTES // 10))) for seq in range(1, 31)]
    for each in batches:
        tail.add(each)
    fitting = CHUNK_BYTES // batches[0].size
    assert seqs(tail.after(START)) == list(range(1, fitting + 1))
    assert len(seqs(tail.after(EventId(1, fitting))) or []) == fitting


def test_the_end_event_marks_its_batch() -> None:
    """It is the last one, so the stream closes after the batch that has it."""
    assert not batch(1, 2).has_end
    assert Batch.of([*events(1, 2), Event(EventId(1, 3), EventId(1, 2), END, b"{}")]).has_end


@given(
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=20),
    fates=st.lists(st.sampled_from(["heard", "lost", "twice", "read first"]), min_size=20, max_size=20),
    start=st.integers(0, 10),
    max_bytes=st.sampled_from([1, 2000, 100_000]),
)
def test_a_viewer_sees_every_event_once_whatever_was_lost(
    cuts: list[int], fates: list[str], start: int, max_bytes: int
) -> None:
    """Tail and log together: no message lost, doubled or late makes a hole or a double."""
    log: list[Event] = []
    tail = Tail(Room(max_bytes))
    cursor = EventId(1, min(start, cuts[0])) if start else START
    seen: list[int] = []
    begin = cursor.seq
    for size, fate in zip(cuts, fates, strict=False):
        new = batch(len(log) + 1, len(log) + size)
        log += new.events
        if fate == "read first":
            cursor = _read(tail, log, cursor, seen)
        for _ in range({"heard": 1, "lost": 0, "twice": 2, "read first": 1}[fate]):
            tail.add(new)
        cursor = _read(tail, log, cursor, seen)
    tail.restart(log[-1].id, has_end=False)  # what the comparison with the record does
    _read(tail, log, cursor, seen)
    assert seen == list(range(begin + 1, len(log) + 1))


def _read(tail: Tail, log: list[Event], cursor: EventId, seen: list[int]) -> EventId:
    """What a viewer does until nothing follows its cursor."""
    while (batches := tail.after(cursor)) != []:
        found = log[cursor.seq :] if batches is None else [event for each in batches for event in each.events]
        if not found:
            if tail.heard is None:
                tail.restart(cursor, has_end=False)
            break
        assert found[0].prev == cursor
        seen += [event.id.seq for event in found]
        cursor = found[-1].id
    return cursor
