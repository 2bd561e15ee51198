"""What has just happened is told once, and nothing of it is left out, however much it is at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refcast.store import steering
from refcast.store.following import Happening, Mark
from refcast.store.selection import Selection
from spooled import DAY, NOON, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        made.endpoint()
        made.put(*(f"b{number}:->A" for number in range(5)))
        made.run()
        yield made


def followed(world: World, mark: Mark, limit: int = 2) -> tuple[list[Happening], Mark]:
    """Look until there is nothing more."""
    happened: list[Happening] = []
    while True:
        some, mark = world.store.following.since(mark, "", limit)
        if not some:
            return happened, mark
        happened += some


class TestSince:
    def test_tells_all_that_ended_at_one_moment(self, world: World) -> None:
        mark = world.store.following.mark()
        world.store.steering.cancel(Selection(endpoint="ci"), NOON + 1, "enough")
        happened, mark = followed(world, mark)
        assert [one.what for one in happened] == ["finished"] * 5
        assert len({one.delivery for one in happened}) == 5
        assert followed(world, mark) == ([], mark)

    def test_looks_between_the_steps_of_a_large_change(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(steering, "STEP", 2)
        mark = world.store.following.mark()
        happened: list[Happening] = []
        real = steering._wake

        def wake_behind_a_look(*arguments: object) -> None:
            nonlocal mark
            # It sees what the steps before this one have done.
            some, mark = followed(world, mark)
            happened.extend(some)
            real(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(steering, "_wake", wake_behind_a_look)
        world.store.steering.cancel(Selection(endpoint="ci"), NOON + 1, "enough")
        assert len(happened) == 4
        assert len(happened + followed(world, mark)[0]) == 5

    def test_what_is_canceled_and_what_expires_do_not_hide_each_other(self, world: World) -> None:
        mark = world.store.following.mark()
        ids = [row.id for row in reversed(world.store.reports.deliveries())]
        world.store.steering.cancel(Selection(ids=tuple(ids[:3])), NOON + 1, "enough")
        world.sql("UPDATE deliveries SET state = 'expired', finished_at = ? WHERE state = 'waiting'", NOON + DAY)
        happened, _ = followed(world, mark)
        assert sorted(one.delivery for one in happened) == sorted(ids)
        assert sorted(one.state for one in happened) == ["canceled"] * 3 + ["expired"] * 2
