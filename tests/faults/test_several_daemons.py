"""Several daemons on one database, of which some end, each in its own way, while the others go on.

Each shard has a tenant with a route of its own; the gap of a shard is the time from the end of its daemon to the first
arrival of an event that was published later. What an accident may repeat is known from outside as in test_kill: what
had arrived of the shards of those daemons, and was not written down when they had stopped to write.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Collection
from contextlib import AsyncExitStack

from tests.support.builders import TENANTS
from tests.support.figures import Figures
from tests.support.reckoning import Pair
from tests.support.running import Running
from tests.support.stage import OWNERS, Stage
from tests.support.until import until
from tests.support.witness import slow

SHARDS = len(TENANTS)
PER_SECOND = 240
ANSWER_SECONDS = 0.3
# What a daemon sent before its end is noted by the witness within this time, however busy the machine is.
STRAGGLE_SECONDS = 3.0
# Nothing can stop a request between the last look at the lease and the wire: what one turn of a loop starts may be late.
LATE = 16
# Daemons look at their shares every half a second while something is not where it belongs.
QUIET_SECONDS = 0.75


async def test_one_daemon_killed_and_one_frozen_past_its_lease(ground: Stage, figures: Figures, is_long: bool) -> None:
    rounds, gaps, allowed, late = 3 if is_long else 1, [0.0], Counter[Pair](), Counter[Pair]()
    async with AsyncExitStack() as daemons:
        (staying,) = await _daemons(ground, daemons, 1)
        await _routes(ground)
        async with ground.producer.load(per_second=PER_SECOND):
            for _ in range(rounds):
                frozen, killed = await _daemons(ground, daemons, 2)
                ground.url = staying.url
                owned = await _until_shared(ground, 3)
                theirs = owned[frozen.process.pid] | owned[killed.process.pid]
                frozen.process.send_signal(signal.SIGSTOP)
                killed.kill()
                ended_at = time.monotonic()
                try:
                    recorded = await ground.recorded()
                    theirs |= await ground.shards_of(frozen) | await ground.shards_of(killed)
                    gaps.append(await _longest_gap(ground, theirs, ended_at))
                    assert not await ground.shards_of(frozen)
                    allowed.update(_exposed(ground, theirs, recorded, ended_at))
                finally:
                    frozen.process.send_signal(signal.SIGCONT)
                thawed_at = time.monotonic()
                # It speaks up again, and has a share again, by then it has tried to write what it still knew.
                await _until_shared(ground, 2)
                assert await frozen.stop() == 0
                late.update(_late(ground, theirs, thawed_at))
        await ground.until_settled()
        found = await ground.reckoning()
    figures.say("rounds of one killed and one frozen", rounds)
    figures.reckon(found, duplicates_at_most=(allowed + late).total())
    figures.time("first delivery of each of their shards", max(gaps), within=12)
    figures.say("outcomes written by the stale owner", await ground.value(_WRITTEN_TWICE), at_most=0)
    figures.say("requests it was about to send when frozen", late.total(), at_most=LATE * rounds)
    assert found.repeated <= allowed + late, "something was repeated though it was written down"
    figures.hold()


async def test_one_of_two_daemons_stopped_while_a_receiver_is_busy(
    ground: Stage, figures: Figures, is_long: bool
) -> None:
    rounds, busy_seconds = (5, 14.0) if is_long else (1, 2.5)
    gaps: list[float] = []
    codes: list[int] = []
    async with AsyncExitStack() as daemons:
        running = await _daemons(ground, daemons, 2)
        await _routes(ground)
        async with ground.producer.load(per_second=PER_SECOND):
            for number in range(rounds):
                if number:
                    running += await _daemons(ground, daemons, 1)
                owned = await _until_shared(ground, 2)
                leaving = running.pop(0)
                ground.url = running[0].url
                theirs = owned[leaving.process.pid]
                busy = f"/busy/{min(theirs)}"
                ground.witness.behave(busy, slow(busy_seconds))
                await ground.producer.insist(
                    [
                        event
                        for event in ground.producer.made(SHARDS, type="busy.do")
                        if event.tenant == TENANTS[min(theirs)]
                    ]
                )
                await until(lambda busy=busy: any(one.path == busy for one in ground.witness.arrivals()), seconds=20)  # type: ignore[misc] # mypy cannot infer a default
                ended_at = time.monotonic()
                leaving.process.send_signal(signal.SIGTERM)
                gaps.append(await _longest_gap(ground, theirs, ended_at))
                codes.append(await asyncio.to_thread(leaving.process.wait, busy_seconds + 20))
        await ground.until_settled()
        found = await ground.reckoning()
    figures.say("rounds of one stopped", rounds)
    figures.reckon(found, duplicates_at_most=0)
    figures.time("first delivery of each of its shards", max(gaps), within=1)
    figures.say("exit codes other than 0", sum(code != 0 for code in codes), at_most=0)
    figures.hold()


_WRITTEN_TWICE = """
SELECT count(*) - count(DISTINCT (route_id, seq)) FROM hookledger.attempt WHERE outcome = 'delivered'
"""


async def _daemons(ground: Stage, daemons: AsyncExitStack, count: int) -> list[Running]:
    """Started side by side."""
    return list(await asyncio.gather(*(daemons.enter_async_context(ground.daemon()) for _ in range(count))))


async def _routes(ground: Stage) -> None:
    """One for each shard that takes a moment to answer, so that there is always something under way; one for tasks."""
    for shard, tenant in enumerate(TENANTS):
        await ground.route(f"/{shard}", "order.*", tenant=tenant)
        await ground.route(f"/busy/{shard}", "busy.*", tenant=tenant)
        ground.witness.behave(f"/{shard}", slow(ANSWER_SECONDS))
    ground.producer.tenants = TENANTS


async def _until_shared(ground: Stage, count: int) -> dict[int, set[int]]:
    """Waits until every shard has an owner, there are so many of them, and nothing moves; process id → its shards."""
    owned, since = await _owned(ground), time.monotonic()
    async with asyncio.timeout(40):
        while (
            time.monotonic() < since + QUIET_SECONDS or len(owned) != count or sum(map(len, owned.values())) != SHARDS
        ):
            await asyncio.sleep(0.05)
            before, owned = owned, await _owned(ground)
            since = since if owned == before else time.monotonic()
    return owned


async def _owned(ground: Stage) -> dict[int, set[int]]:
    owned: dict[int, set[int]] = {}
    for row in await ground.rows(OWNERS):
        owned.setdefault(row["pid"], set()).add(row["shard"])
    return owned


def _exposed(ground: Stage, shards: Collection[int], recorded: Collection[Pair], ended_at: float) -> set[Pair]:
    """What arrived of these shards and was not written down. Nobody else sends anything of them for seconds."""
    paths, until_at = {f"/{shard}" for shard in shards}, ended_at + STRAGGLE_SECONDS
    arrivals = ground.witness.arrivals()
    return {(one.path, one.event_id) for one in arrivals if one.path in paths and one.at < until_at} - set(recorded)


def _late(ground: Stage, shards: Collection[int], thawed_at: float) -> set[Pair]:
    """What came again of these shards right after the thaw."""
    paths = {f"/{shard}" for shard in shards}
    arrivals = [one for one in ground.witness.arrivals() if one.path in paths]
    known = {(one.path, one.event_id) for one in arrivals if one.at < thawed_at}
    return known & {(one.path, one.event_id) for one in arrivals if thawed_at <= one.at < thawed_at + STRAGGLE_SECONDS}


async def _longest_gap(ground: Stage, shards: Collection[int], since: float) -> float:
    """Waits until something published since then has arrived of each of the shards."""
    log = ground.producer.log
    firsts: dict[str, float] = {}

    def all_came() -> bool:
        for one in ground.witness.arrivals():
            if one.at > since and one.event_id in log and log[one.event_id].asked_at > since:
                firsts.setdefault(one.path, one.at - since)
        return all(f"/{shard}" in firsts for shard in shards)

    await until(all_came, seconds=40)
    return max(firsts[f"/{shard}"] for shard in shards)
