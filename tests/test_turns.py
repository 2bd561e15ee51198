"""Whose turn it is, against the same rules written plainly: each time over all that waits."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from refcast import spool
from refcast.ingest import order
from refcast.ingest.order import Record
from refcast.ingest.turns import Turns
from refcast.model import ZERO_ID, RefUpdate

IDS = (ZERO_ID, *(letter * 40 for letter in "abcd"))
REFS = ("refs/heads/main", "refs/heads/dev", "refs/tags/v1")

UPDATES = st.tuples(st.sampled_from(IDS), st.sampled_from(IDS)).filter(lambda pair: pair[0] != pair[1])
RECORDS = st.lists(st.dictionaries(st.sampled_from(REFS), UPDATES, min_size=1), max_size=9)


def record(moves: Mapping[str, tuple[str, str]]) -> Record:
    updates = tuple(RefUpdate(old, new, ref) for ref, (old, new) in moves.items())
    part = spool.Part("/srv/site.git", updates, str(uuid.uuid4()))
    return Record(spool.Entry(Path("x"), 0, datetime.now(UTC), (), (part,), True, False), part)


def plainly(records: Sequence[Record], tips: Mapping[str, str], moving: Collection[str]) -> Record | None:
    def begins_at_tip(ref: str, update: RefUpdate) -> bool:
        return order.tip(tips, ref, update.old) == update.old

    fitting = [one for one in records if all(begins_at_tip(*move) for move in one.moves())]
    if fitting:
        return next((one for one in fitting if not strands(one, fitting, records)), fitting[0])
    held, free = set(moving), list(records)
    while waiting := [
        one for one in free if any(ref in held and not begins_at_tip(ref, update) for ref, update in one.moves())
    ]:
        held |= {ref for one in waiting for ref, _ in one.moves()}
        free = [one for one in free if one not in waiting]
    arrivals = {(ref, update.new) for one in records for ref, update in one.moves()}
    for one in free:
        if not any((ref, update.old) in arrivals for ref, update in one.moves() if not begins_at_tip(ref, update)):
            return one
    return free[0] if free else None


def strands(one: Record, fitting: Sequence[Record], records: Sequence[Record]) -> bool:
    mine = dict(one.moves())
    rivals = {ref for other in fitting if other is not one for ref, _ in other.moves() if ref in mine}
    for ref in rivals:
        steps = [move for other in records if other is not one for name, move in other.moves() if name == ref]
        reached = {mine[ref].new}
        while more := {move.new for move in steps if move.old in reached} - reached:
            reached |= more
        if mine[ref].old not in reached:
            return True
    return False


@settings(max_examples=500, deadline=None)
@given(
    RECORDS, st.dictionaries(st.sampled_from(REFS), st.sampled_from(IDS[1:])), st.sets(st.sampled_from(REFS)), st.data()
)
def test_it_is_that_of_the_rules(
    told: list[dict[str, tuple[str, str]]], tips: dict[str, str], moving: set[str], data: st.DataObject
) -> None:
    waiting = [record(moves) for moves in told]
    turns = Turns(waiting, tips, moving)
    while True:
        expected = plainly(waiting, tips, moving)
        assert turns.following() is expected
        if expected is None and waiting:
            # As one that an interruption has left half told: it comes before its turn.
            expected = data.draw(st.sampled_from(waiting))
        if expected is None:
            return
        for ref, update in expected.moves():
            if data.draw(st.integers(0, 9)):  # what a record tells late moves nothing
                order.move(tips, ref, update.new)
        waiting.remove(expected)
        turns.done(expected)


def test_one_that_is_half_told_moves_a_ref_back_first() -> None:
    first, second = record({REFS[0]: (IDS[1], IDS[2])}), record({REFS[0]: (IDS[2], IDS[3])})
    tips = {REFS[0]: IDS[4]}
    turns = Turns([second, first], tips, ())
    tips[REFS[0]] = IDS[2]
    turns.done(first)
    assert turns.following() is second
