"""kill -9 of the daemon at random points, under load.

What a kill may repeat is what had arrived and was not written down when it came. Both are known from outside: the
witness has logged what arrived since the daemon started, and the table of attempts, read before the next one starts,
what was written. So a repetition of anything else is a fault, however few there are. How much that may be is a promise
of its own (design.md §4): the requests under way, and the outcomes of 50 ms or 500 that wait for the flush, plus as
many that came while the last flush was being written.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

from eventstore.progress.lease import TTL
from tests.support.crash import age_leases, free_leases
from tests.support.figures import Figures
from tests.support.producer import Fate
from tests.support.reckoning import Pair
from tests.support.stage import Stage
from tests.support.until import until

CONCURRENCY = 64
FLUSH_ROWS = 500
# Of the quick version: how often the leases are left to expire, and how often freed as if that time had passed; and how
# much of that time passes at once.
QUICK_WAITS, QUICK_KILLS, QUICK_EVENTS, QUICK_AGE_SECONDS = 1, 2, 1_000, 8.0
LONG_KILLS, LONG_EVENTS = 30, 20_000
TENANTS = ("acme", "bella", "cyan", "dove")


async def test_a_daemon_killed_at_random_points(
    ground: Stage, figures: Figures, dice: random.Random, is_long: bool
) -> None:
    kills, waits = (LONG_KILLS, LONG_KILLS) if is_long else (QUICK_KILLS, QUICK_WAITS)
    events = (LONG_EVENTS if is_long else QUICK_EVENTS) // kills
    aged_seconds = 0.0 if is_long else QUICK_AGE_SECONDS
    ground.producer.tenants = TENANTS
    lives: list[dict[Pair, float]] = []
    gaps = [0.0]
    async with asyncio.TaskGroup() as publishing:
        for number in range(kills):
            async with ground.daemon(HOOKLEDGER_DELIVERY__CONCURRENCY=str(CONCURRENCY)) as daemon:
                before, started_at = ground.witness.count, time.monotonic()
                if number == 0:
                    for tenant in TENANTS:
                        await ground.route(f"/{tenant}", tenant=tenant)
                publishing.create_task(ground.producer.publish(events, batch=20))
                await ground.until_arrived(before + dice.randint(1, events))
                if 0 < number <= waits:
                    gaps.append(ground.witness.arrivals()[before].at - started_at + aged_seconds)
                for _ in range(dice.randrange(20)):
                    await asyncio.sleep(0)
                daemon.kill()
            lives.append(await _exposed(ground, before, killed_at=time.monotonic()))
            if number >= waits:
                await free_leases(ground.database_url)
            elif aged_seconds:
                await age_leases(ground.database_url, seconds=aged_seconds)
        async with ground.daemon():
            await until(lambda: len(ground.producer.log) == kills * events, seconds=30)
            log = ground.producer.log
            await until(lambda: all(each.fate is Fate.ACKNOWLEDGED for each in log.values()), seconds=30)
            await ground.until_settled()
    found = await ground.reckoning()
    allowed = Counter(pair for life in lives for pair in life)
    figures.say("kills", kills)
    figures.reckon(found, duplicates_at_most=allowed.total())
    figures.say("arrived and unwritten at a kill, most", max(map(len, lives)), at_most=CONCURRENCY + 2 * FLUSH_ROWS)
    figures.say("the oldest of those", max(max(life.values(), default=0) for life in lives), "s")
    figures.time("first delivery after restart", max(gaps), within=TTL.total_seconds() + 2)
    assert found.repeated <= allowed, "something was repeated though it was written down"
    figures.hold()


async def _exposed(ground: Stage, before: int, *, killed_at: float) -> dict[Pair, float]:
    """What arrived in this life and is not written down, and how long before the kill."""
    recorded = await ground.recorded()
    await until(lambda: ground.witness.connections() == 0)
    arrivals = ground.witness.arrivals()[before:]
    arrived = {(arrival.path, arrival.event_id): killed_at - arrival.at for arrival in arrivals}
    return {pair: seconds for pair, seconds in arrived.items() if pair not in recorded}
