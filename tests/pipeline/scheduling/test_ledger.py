"""The ledger without other stages, compared with the definition of a checkpoint."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.tunables import DEFAULTS, Tunables
from tests.support.values.deliveries import delivery

STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "account", "read"]), st.integers(0, 1), st.integers(0, 30)), max_size=80
)


@given(STEPS)
def test_the_checkpoint_is_the_last_tick_below_which_nothing_is_open(steps: list[tuple[str, int, int]]) -> None:
    ledger = Ledger()
    tick, is_open, done = dict.fromkeys((0, 1), 5), list[Delivery](), list[Delivery]()
    for shard in (0, 1):
        ledger.adopt(Takeover(checkpoints={shard: 5}))
    for step, shard, number in steps:
        if step == "add":
            is_open.append(delivery(len(is_open) + len(done), shard=shard, tick=tick[shard] + 1))
            ledger.add(is_open[-1])
        elif step == "account" and is_open:
            done.append(is_open.pop(number % len(is_open)))
            ledger.account(done[-1])
            ledger.account(done[-1])
        elif step == "read":
            tick[shard] += 1
            ledger.read(shard, tick[shard])
        for of in (0, 1):
            lowest = min((d.tick for d in is_open if d.shard == of), default=None)
            assert ledger.checkpoint(of) == (tick[of] if lowest is None else min(lowest - 1, tick[of]))
        assert ledger.pairs == len(is_open)


async def test_a_full_ledger_has_room_again_once_a_part_is_accounted_for() -> None:
    ledger = Ledger()
    ledger.adopt(Takeover(checkpoints={0: 0}))
    held = [delivery(n) for n in range(DEFAULTS.max_pairs)]
    for each in held:
        assert ledger.has_room
        ledger.add(each)
    assert not ledger.has_room
    waiting = asyncio.ensure_future(ledger.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    spare = int(DEFAULTS.max_pairs * (1 - DEFAULTS.room_part))
    for each in held[:spare]:
        ledger.account(each)
    assert not ledger.has_room
    ledger.account(held[spare])
    async with asyncio.timeout(1):
        await waiting


async def test_bytes_fill_it_too() -> None:
    ledger = Ledger()
    ledger.adopt(Takeover(checkpoints={0: 0}))
    large = delivery(size=DEFAULTS.max_bytes)
    ledger.add(large)
    assert not ledger.has_room
    ledger.account(large)
    assert ledger.has_room


@pytest.mark.parametrize(
    ("others", "share"),
    [(0, 720), (80, 648), (400, 360), (600, 180), (680, 108), (700, 100), (790, 100)],
)
async def test_a_shard_may_have_most_of_what_the_others_leave(others: int, share: int) -> None:
    ledger = Ledger(Tunables(max_pairs=800))
    ledger.adopt(Takeover(checkpoints={0: 0, 1: 0, 2: 0}))
    for n in range(others):
        ledger.add(delivery(n, shard=1))
    mine = [delivery(n) for n in range(share)]
    for each in mine:
        assert not ledger.has_share(0)
        ledger.add(each)
    assert ledger.has_share(0)
    assert not ledger.has_room_of(0)
    assert not ledger.has_share(2)
    assert ledger.has_room == (others + share < 800)


async def test_in_a_full_ledger_a_shard_that_has_little_goes_on_and_one_that_has_much_is_left_behind() -> None:
    ledger = Ledger(Tunables(max_pairs=800))
    ledger.adopt(Takeover(checkpoints={0: 0, 1: 0, 2: 0}))
    for n in range(100):
        ledger.add(delivery(n, shard=1))
    for n in range(700):
        ledger.add(delivery(n, shard=2))
    assert not ledger.has_room
    for n in range(25):
        assert ledger.has_room_of(0)
        ledger.add(delivery(n, shard=0))
    assert not ledger.has_room_of(0)
    assert not ledger.has_share(0), "it waits, and the others with it"
    assert ledger.has_share(1)
    async with asyncio.timeout(1):
        ledger.drop(2)
        await ledger.room_of(0)


async def test_a_shard_that_had_its_share_may_have_more_once_a_part_is_accounted_for() -> None:
    ledger = Ledger(Tunables(max_pairs=800))
    ledger.adopt(Takeover(checkpoints={0: 0}))
    held = [delivery(n) for n in range(720)]
    for each in held:
        ledger.add(each)
    waiting = asyncio.ensure_future(ledger.room_of(0))
    await asyncio.sleep(0)
    for each in held[:180]:
        assert ledger.has_share(0)
        ledger.account(each)
    assert ledger.has_share(0)
    assert not waiting.done()
    ledger.account(held[180])
    assert not ledger.has_share(0)
    async with asyncio.timeout(1):
        await waiting


async def test_bytes_are_shared_too() -> None:
    held = [delivery(n, size=1000) for n in range(9)]
    ledger = Ledger(Tunables(max_bytes=10 * held[0].event.size_bytes))
    ledger.adopt(Takeover(checkpoints={0: 0, 1: 0}))
    for each in held:
        assert not ledger.has_share(0)
        ledger.add(each)
    assert ledger.has_share(0)
    assert ledger.has_room_of(1)
    for each in held[:3]:
        assert ledger.has_share(0)
        ledger.account(each)
    assert not ledger.has_share(0)


async def test_nobody_waits_for_the_room_of_a_shard_that_is_dropped() -> None:
    ledger = Ledger(Tunables(max_pairs=10))
    ledger.adopt(Takeover(checkpoints={0: 0}))
    for n in range(9):
        ledger.add(delivery(n))
    waiting = asyncio.ensure_future(ledger.room_of(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    ledger.drop(0)
    async with asyncio.timeout(1):
        await waiting
    assert ledger.has_room_of(0)


async def test_a_dropped_shard_takes_its_deliveries_along() -> None:
    ledger = Ledger()
    for shard in (1, 2):
        ledger.adopt(Takeover(checkpoints={shard: 0}))
    gone, stays = [delivery(n, shard=1) for n in range(3)], delivery(9, shard=2)
    for each in (*gone, stays):
        ledger.add(each)
    ledger.drop(1)
    assert [d.is_withdrawn for d in (*gone, stays)] == [True, True, True, False]
    assert ledger.shards() == [2]
    assert ledger.pairs == 1
    ledger.account(gone[0])
    ledger.adopt(Takeover(checkpoints={1: 4}))
    assert ledger.checkpoint(1) == 4
    ledger.account(gone[1])
    assert ledger.checkpoint(1) == 4


async def test_older_than_names_the_unaccounted_oldest_first() -> None:
    ledger = Ledger()
    ledger.adopt(Takeover(checkpoints={0: 0}))
    all_of_them = [delivery(n, read_at=float(n)) for n in range(5)]
    for each in all_of_them:
        ledger.add(each)
    ledger.account(all_of_them[1])
    assert [d.event.seq for d in ledger.older_than(3.0)] == [0, 2]


def many(tenant: str, *seqs: int, tick: int = 1) -> list[Delivery]:
    """A delivery for each seq, of a tenant of shard 0."""
    made = [delivery(seq, tick=tick) for seq in seqs]
    for each in made:
        each.event.tenant = tenant
    return made


async def test_a_tenant_that_is_set_aside_leaves_its_shard_room_and_takes_its_pairs_along() -> None:
    ledger = Ledger(Tunables(max_pairs=40))
    ledger.adopt(Takeover(checkpoints={0: 0}))
    large, small = many("large", *range(34)), many("small", *range(34, 37))
    for each in large + small:
        ledger.add(each)
    assert ledger.has_share(0)
    assert ledger.largest_tenant(0) == "large"
    ledger.set_aside(0, "large")
    assert not ledger.has_share(0)
    assert ledger.has_share(0, "large")
    assert not ledger.has_share(0, "small")
    assert ledger.largest_tenant(0) is None
    for each in large[:20]:
        ledger.account(each)
    assert not ledger.has_share(0, "large")
    ledger.rejoin(0, "large")
    assert ledger._shards[0].own.pairs == ledger.pairs == 17
    for each in large[20:] + small:
        ledger.account(each)
    assert ledger._shards[0].own.pairs == ledger._shards[0].own.bytes == 0


def test_a_shard_that_nobody_has_most_of_has_no_largest_tenant() -> None:
    ledger = Ledger(Tunables(max_pairs=20))
    ledger.adopt(Takeover(checkpoints={0: 0}))
    for each in many("one", *range(9)) + many("other", *range(9, 18)):
        ledger.add(each)
    assert ledger.has_share(0)
    assert ledger.largest_tenant(0) is None


def test_the_checkpoint_waits_for_a_tenant_that_was_set_aside() -> None:
    ledger = Ledger()
    ledger.adopt(Takeover(checkpoints={0: 4}))
    ledger.set_aside(0, "large")
    ledger.read(0, 5)
    ledger.read(0, 6)
    assert (ledger.checkpoint(0), ledger.read_upto(0, "small"), ledger.read_upto(0, "large")) == (4, 6, 4)
    ledger.read(0, 5, "large")
    assert ledger.checkpoint(0) == 5
    ledger.read(0, 6, "large")
    ledger.rejoin(0, "large")
    ledger.read(0, 7)
    assert (ledger.checkpoint(0), ledger.read_upto(0, "large")) == (7, 7)


async def test_a_shard_that_is_too_far_ahead_of_a_tenant_waits_for_it() -> None:
    ledger = Ledger(Tunables(ahead_pairs=3))
    ledger.adopt(Takeover(checkpoints={0: 0}))
    ledger.set_aside(0, "large")
    for each in many("small", 1, 2) + many("large", *range(3, 9)):
        ledger.add(each)
        ledger.account(each)
        assert not ledger.has_share(0)
    (third,) = many("small", 9)
    ledger.add(third)
    ledger.account(third)
    waiting = asyncio.ensure_future(ledger.room_of(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    ledger.read(0, 1, "large")  # it has read the tick of which the shard is reading
    await waiting
    ledger.rejoin(0, "large")
    assert not ledger.has_share(0)


def test_a_tenant_of_a_shard_that_was_dropped_rejoins_nothing() -> None:
    ledger = Ledger()
    ledger.adopt(Takeover(checkpoints={0: 0}))
    ledger.set_aside(0, "large")
    ledger.drop(0)
    ledger.rejoin(0, "large")
    ledger.adopt(Takeover(checkpoints={0: 0}))
    ledger.rejoin(0, "large")
    assert ledger.checkpoint(0) == 0
