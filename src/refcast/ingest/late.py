"""Whether a record tells late of what a recovered event has announced: values only, read by others.

A record whose old id is not the ledger's tip lies before it (it is late), or behind a gap that nobody has told of. Ids
tell most of it. Where they leave it open, late is the answer that does no harm: if the ref has moved after all, the
next record or sweep finds it; a gap that was none would announce what never happened.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from refcast.model import RefUpdate
from refcast.store.recoveries import Recovery

OUTLIVES = 3600.0
"""Seconds that a hook may still write its record after its move was found without one: it may hang in what it runs."""


def covering(
    recoveries: Sequence[Recovery], update: RefUpdate, *, tip: str, present: str | None, time: float
) -> Recovery | None:
    """The recovered event that had announced what a record of this time tells; None if none had.

    `recoveries` are those of the ref, newest first. `tip` is what the ledger has, which is not `update.old`, and
    `present` what the ref names now; None where that cannot be told."""
    if present == update.new and present != tip:
        return None
    free = [one for one in recoveries if not _is_told(one)]
    # A hook that hangs may write its record when its move was found long since; not days afterwards.
    soon = [one for one in free if time <= one.found_at + OUTLIVES]
    joined = next((one for one in soon if _joins(one, update)), None)
    before = next((one for one in free if time <= one.received_at), None)
    # If the ref is where the ledger has it, nothing newer is left to tell, whatever the clocks say.
    inside = next((one for one in (free if present == tip else soon) if _may_lie_in(one, update)), None)
    return joined or before or inside


def _joins(recovery: Recovery, update: RefUpdate) -> bool:
    """Whether an update begins or ends where a recovered one does, or where another part of it left a gap."""
    begins = {recovery.old, *(new for _, new in recovery.told)}
    ends = {recovery.new, *(old for old, _ in recovery.told)}
    return (update.old, update.new) not in recovery.told and (update.old in begins or update.new in ends)


def _may_lie_in(recovery: Recovery, update: RefUpdate) -> bool:
    """Whether an update may be a part of a recovered one: what went on between ids that were told since is not."""
    return not {update.old, update.new} <= recovery.since | {recovery.new}


def _is_told(recovery: Recovery) -> bool:
    """Whether late records have told the whole way from one end of it to the other."""
    steps: defaultdict[str, set[str]] = defaultdict(set)
    for old, new in recovery.told:
        steps[old].add(new)
    seen: set[str] = set()
    ahead = list(steps[recovery.old])
    while ahead:
        here = ahead.pop()
        if here == recovery.new:
            return True
        if here not in seen:
            seen.add(here)
            ahead += steps[here]
    return False
