"""Which shards are ours, without other stages: each state says what may be done, and members hear of every change."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from daemon.pipeline.held_shards import HeldShards, Takeover
from eventstore.progress.backlog import ParkedRoute
from tests.support.values.builders import ROUTE


class Listening:
    """A member that notes what it is told."""

    def __init__(self, shards: HeldShards) -> None:
        self.told: list[tuple[str, list[int]]] = []
        self.held: list[list[int]] = []
        self._shards = shards

    def adopt(self, takeover: Takeover) -> None:
        self.told.append(("adopt", sorted(takeover.checkpoints)))
        self.held.append(self._shards.held)

    async def part(self, shards: Collection[int]) -> None:
        self.told.append(("part", sorted(shards)))

    def drop(self, shard: int) -> None:
        self.told.append(("drop", [shard]))


def made() -> tuple[HeldShards, Listening]:
    shards = HeldShards()
    member = Listening(shards)
    shards.members = (member,)
    return shards, member


def takeover(*shards: int) -> Takeover:
    return Takeover(checkpoints=dict.fromkeys(shards, 7))


def test_a_shard_that_is_being_taken_is_renewed_and_nothing_else() -> None:
    shards, member = made()
    shards.take({3: 5}, 100.0)
    assert shards.renewable() == {3: 5}
    assert (shards.held, shards.writable(), shards.epoch(3)) == ([], {}, None)
    assert not shards.is_held(3)
    assert not shards.is_certain(3, 0.0)
    assert member.told == []


def test_a_shard_is_held_once_every_member_has_begun_and_then_it_is_said() -> None:
    shards, member = made()
    said: list[tuple[list[int], list[int]]] = []
    shards.on_adopted.append(lambda it: said.append((sorted(it.checkpoints), shards.held)))
    shards.take({3: 5}, 100.0)
    assert shards.hold(takeover(3), {3: 5}) == [3]
    assert said == [([3], [3])]
    assert (member.told, member.held) == ([("adopt", [3])], [[]])
    assert (shards.held, shards.writable(), shards.epoch(3)) == ([3], {3: 5}, 5)
    assert shards.is_held(3)


def test_a_lease_is_certain_until_its_time_and_held_beyond_it() -> None:
    shards, _ = made()
    shards.take({3: 5}, 100.0)
    shards.hold(takeover(3), {3: 5})
    assert shards.is_certain(3, 99.9)
    assert not shards.is_certain(3, 100.0)
    assert shards.is_held(3)
    shards.renew(3, 5, 200.0)
    assert shards.is_certain(3, 199.9)
    shards.renew(3, 4, 300.0)
    assert not shards.is_certain(3, 250.0)
    shards.renew(9, 1, 300.0)
    assert shards.renewable() == {3: 5}


def test_only_shards_that_are_still_ours_under_the_same_epoch_are_worked_on() -> None:
    shards, member = made()
    shards.take({1: 1, 2: 1, 3: 1}, 100.0)
    shards.lose(1)
    shards.lose(2)
    shards.take({2: 2}, 100.0)
    assert shards.hold(takeover(1, 2, 3), {1: 1, 2: 1, 3: 1}) == [3]
    assert member.told == [("adopt", [3])]
    assert shards.hold(takeover(2), {2: 2}) == [2]
    assert sorted(shards.held) == [2, 3]


def test_a_shard_that_parts_is_still_written_and_nothing_starts_for_it() -> None:
    shards, member = made()
    shards.take({1: 4, 2: 4}, 100.0)
    shards.hold(takeover(1), {1: 4, 2: 4})
    assert shards.part([1, 2, 3]) == {1: 4}
    assert (shards.held, shards.writable(), shards.renewable()) == ([], {1: 4}, {1: 4, 2: 4})
    assert not shards.is_certain(1, 0.0)
    assert shards.free({1: 4, 2: 3, 9: 1}) == {1: 4}
    assert shards.renewable() == {2: 4}
    assert member.told == [("adopt", [1])], "transfer tells the members to part"


def test_a_lost_shard_is_dropped_by_all_members_once() -> None:
    shards, member = made()
    shards.take({1: 1, 2: 1}, 100.0)
    shards.hold(takeover(1), {1: 1})
    for _ in range(2):
        shards.lose(1)
    assert member.told == [("adopt", [1]), ("drop", [1])]
    assert shards.changed.is_set
    shards.lose(2)
    assert member.told[2:] == [], "nobody has begun with it"
    assert shards.renewable() == {}


def test_what_is_being_taken_can_be_abandoned_and_what_is_held_stays() -> None:
    shards, member = made()
    shards.take({1: 1}, 100.0)
    shards.hold(takeover(1), {1: 1})
    shards.take({2: 1}, 100.0)
    shards.abandon_taking()
    assert (shards.held, shards.renewable()) == ([1], {1: 1})
    assert member.told == [("adopt", [1])]


async def test_all_that_wait_hear_of_every_change() -> None:
    shards, _ = made()

    async def hears(change: object) -> bool:
        waiting = asyncio.ensure_future(shards.wait_changed())
        await asyncio.sleep(0)
        assert not waiting.done()
        assert callable(change)
        change()
        async with asyncio.timeout(5):
            await waiting
        return True

    shards.take({1: 1, 2: 1}, 100.0)
    assert await hears(lambda: shards.hold(takeover(1, 2), {1: 1, 2: 1}))
    assert await hears(lambda: shards.renew(1, 1, 200.0))
    assert await hears(lambda: shards.part([1]))
    assert await hears(lambda: shards.free({1: 1}))
    assert await hears(lambda: shards.lose(2))


def test_a_part_of_a_takeover_has_only_what_is_parked_of_its_shards() -> None:
    parked = ParkedRoute(shard=2, listed=3, range_from=None)
    whole = Takeover(
        checkpoints={1: 5, 2: 6},
        newest_tick=9,
        accounted={1: {(ROUTE, 7)}, 2: {(ROUTE, 8)}},
        parked={ROUTE: parked},
        retrying=frozenset({ROUTE}),
    )
    assert whole.only([1]) == Takeover(
        checkpoints={1: 5}, newest_tick=9, accounted={1: {(ROUTE, 7)}}, retrying=frozenset({ROUTE})
    )
    assert whole.only([2]).parked == {ROUTE: parked}
