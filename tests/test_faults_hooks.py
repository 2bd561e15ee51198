"""Each system call of the hooks, of what they start and of receive-pack dies or fails, in real pushes: judged from what
git says has moved and from the receiver's own book.

A hook that is killed is git's to judge: for `update` it refuses the ref, for `post-receive` the push has succeeded. A
call that fails never makes a push fail. Runs of one-byte reads count by their first and last; benchmarks/
kill_everywhere.py takes them all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import faults
from faults_hooks import CALLED, HOOKS, RECEIVE_PACK, Pushed, Pushes, Reckoning
from receiver import Receiver
from refcast.install import INTENTS
from refcast.store import Store
from servers import Server
from spooled import ENDPOINT

NOTHING = Reckoning(lost=[], invented=[], twice=[], ledger_differs=False)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def server(tmp_path: Path, receiver: Receiver) -> Iterator[Server]:
    faults.ready()
    with Server(tmp_path, worker=False) as made:
        with Store.open(made.state) as store:
            store.endpoints.add(replace(ENDPOINT, url=receiver.url), time.time())
        yield made


VARYING = frozenset({"read", "futex", "poll", "rt_sigreturn"})
"""How often these are called depends on the length of a process id, or on who is faster."""


def met(pushes: list[Pushed]) -> list[Pushed]:
    """The pushes that met their fault: nearly all, or the test would show nothing."""
    there = [one for one in pushes if one.reached]
    assert [str(one.fault) for one in pushes if not one.reached and one.fault and one.fault.call not in VARYING] == []
    assert len(there) > 20
    return there


def judge(pushes: Pushes, receiver: Receiver) -> None:
    for _ in range(2):  # the second time nothing is new
        pushes.drain()
        assert pushes.reckon(receiver) == NOTHING


@pytest.mark.parametrize("program", INTENTS)
class TestBeforeARefMoves:
    def test_killed_anywhere(self, server: Server, receiver: Receiver, program: str) -> None:
        pushes = Pushes(server, program)
        hurt = met(pushes.all(faults.kills(pushes.count())))
        moved = pushes.moved()
        for one in hurt:
            first, second = one.refs
            assert one.status == 1
            assert "hook declined" in one.said
            # `update` has one ref refused, `pre-receive` the push.
            assert (first in moved, second in moved) == (False, program == "update")
        judge(pushes, receiver)

    def test_failing_anywhere(self, server: Server, receiver: Receiver, program: str) -> None:
        pushes = Pushes(server, program)
        hurt = met(pushes.all(faults.failures(pushes.count(), behind=pushes.real.name)))
        assert [(str(one.fault), one.said) for one in hurt if one.status] == []
        assert {ref for one in hurt for ref in one.refs} <= set(pushes.moved())
        judge(pushes, receiver)


@pytest.mark.parametrize("program", ["post-receive", *CALLED])
class TestAfterTheRefsHaveMoved:
    def test_killed_anywhere(self, server: Server, receiver: Receiver, program: str) -> None:
        pushes = Pushes(server, program)
        hurt = met(pushes.all(faults.kills(pushes.count())))
        assert [(str(one.fault), one.said) for one in hurt if one.status] == []
        assert {ref for one in hurt for ref in one.refs} <= set(pushes.moved())
        judge(pushes, receiver)

    def test_failing_anywhere(self, server: Server, receiver: Receiver, program: str) -> None:
        pushes = Pushes(server, program)
        behind = pushes.real.name if program in HOOKS else ""
        hurt = met(pushes.all(faults.failures(pushes.count(), behind=behind)))
        assert [(str(one.fault), one.said) for one in hurt if one.status] == []
        judge(pushes, receiver)


class TestReceivePack:
    def test_killed_from_the_first_lock_of_a_ref_on(self, server: Server, receiver: Receiver) -> None:
        """Whatever has moved by then is announced, whether or not post-receive has run."""
        pushes = Pushes(server, RECEIVE_PACK)
        made = pushes.count()
        start = next(at for at, call in enumerate(made) if ".lock" in call.said)
        before = set(faults.kills(made[:start]))
        hurt = met(pushes.all([fault for fault in faults.kills(made) if fault not in before]))
        moved = pushes.moved()
        states = {tuple(ref in moved for ref in one.refs) for one in hurt}
        assert states >= {(False, False), (True, True)}
        judge(pushes, receiver)
