"""Several daemons on one database: some are killed, frozen or stopped while the others run on.

Each shard has a tenant with a route of its own. The gap of a shard is the time from the end of its daemon to the first
arrival of an event that was published later. A shard whose next owner would be a frozen one waits for the TTL. A killed or frozen daemon may repeat only requests of its shards that had
arrived and were not recorded when it stopped writing, as in test_kill.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Collection
from contextlib import AsyncExitStack

from daemon.core.rendezvous import preferred
from eventstore.leases.lifeline import PERMIT_SECONDS
from tests.support.faults.delivery_check import PathAndEvent
from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import OWNERS, SystemUnderTest
from tests.support.processes.running import Running
from tests.support.receivers.recording_receiver import slow
from tests.support.until import until
from tests.support.values.builders import TENANTS

SHARDS = len(TENANTS)
PER_SECOND = 240
ANSWER_SECONDS = 0.3
# The receiver has logged what a daemon sent before its end within this time, however busy the machine is. What a killed
# one sent is sent again after PERMIT_SECONDS already.
STRAGGLE_SECONDS = 3.0
# A request cannot be stopped between the last check of the lease and the socket: one turn of the loop may start so many.
LATE = 16
# Daemons check their shares every half second while a shard is not at its owner.
QUIET_SECONDS = 0.75


async def test_one_daemon_killed_and_one_frozen_past_its_lease(
    system: SystemUnderTest, report: FaultReport, is_long: bool
) -> None:
    rounds, allowed, late = 3 if is_long else 1, Counter[PathAndEvent](), Counter[PathAndEvent]()
    gaps, frozen_gaps = [0.0], [0.0]
    async with AsyncExitStack() as daemons:
        (staying,) = await _daemons(system, daemons, 1)
        await _routes(system)
        async with system.producer.load(per_second=PER_SECOND):
            for _ in range(rounds):
                frozen, killed = await _daemons(system, daemons, 2)
                system.url = staying.url
                owned = await _until_shared(system, 3)
                of_killed, of_frozen = owned[killed.process.pid], owned[frozen.process.pid]
                heirs = await _heirs(system, staying, frozen)
                frozen.process.send_signal(signal.SIGSTOP)
                killed.kill()
                ended_at = time.monotonic()
                try:
                    recorded = await system.recorded()
                    of_killed |= await system.shards_of(killed)
                    inherited = {shard for shard in of_killed if heirs[shard] == staying.process.pid}
                    gaps.append(await _longest_gap(system, inherited, ended_at))
                    # The rest is left to the frozen one until its leases expire.
                    theirs = of_killed | of_frozen | await system.shards_of(frozen)
                    frozen_gaps.append(await _longest_gap(system, theirs - inherited, ended_at))
                    assert not await system.shards_of(frozen)
                    allowed.update(_exposed(system, of_killed, recorded, ended_at + PERMIT_SECONDS))
                    allowed.update(_exposed(system, theirs - of_killed, recorded, ended_at + STRAGGLE_SECONDS))
                finally:
                    frozen.process.send_signal(signal.SIGCONT)
                thawed_at = time.monotonic()
                # When it has a share again, it has also tried to write its old outcomes.
                await _until_shared(system, 2)
                assert await frozen.stop() == 0
                late.update(_late(system, theirs, thawed_at))
        await system.until_settled()
        found = await system.check_deliveries()
    report.add("rounds of one killed and one frozen", rounds)
    report.add_check(found, duplicates_at_most=(allowed + late).total())
    report.add_duration("first delivery of each shard that the staying one inherits", max(gaps), within=3)
    report.add_duration("first delivery of each shard that waits for the frozen one", max(frozen_gaps), within=12)
    report.add("outcomes written by the stale owner", await system.value(_WRITTEN_TWICE), at_most=0)
    report.add("requests it was about to send when frozen", late.total(), at_most=LATE * rounds)
    assert found.repeated <= allowed + late, "something was repeated though it was recorded"
    report.verify()


async def test_one_of_two_daemons_stopped_while_a_receiver_is_busy(
    system: SystemUnderTest, report: FaultReport, is_long: bool
) -> None:
    rounds, busy_seconds = (5, 14.0) if is_long else (1, 2.5)
    gaps: list[float] = []
    codes: list[int] = []
    async with AsyncExitStack() as daemons:
        running = await _daemons(system, daemons, 2)
        await _routes(system)
        async with system.producer.load(per_second=PER_SECOND):
            for number in range(rounds):
                if number:
                    running += await _daemons(system, daemons, 1)
                owned = await _until_shared(system, 2)
                leaving = running.pop(0)
                system.url = running[0].url
                theirs = owned[leaving.process.pid]
                busy = f"/busy/{min(theirs)}"
                system.receiver.behave(busy, slow(busy_seconds))
                await system.producer.publish_until_answered(
                    [
                        event
                        for event in system.producer.new_events(SHARDS, type="busy.do")
                        if event.tenant == TENANTS[min(theirs)]
                    ]
                )
                await until(lambda busy=busy: any(one.path == busy for one in system.receiver.arrivals()), seconds=20)  # type: ignore[misc] # mypy cannot infer a default
                ended_at = time.monotonic()
                leaving.process.send_signal(signal.SIGTERM)
                gaps.append(await _longest_gap(system, theirs, ended_at))
                codes.append(await asyncio.to_thread(leaving.process.wait, busy_seconds + 20))
        await system.until_settled()
        found = await system.check_deliveries()
    report.add("rounds of one stopped", rounds)
    report.add_check(found, duplicates_at_most=0)
    report.add_duration("first delivery of each of its shards", max(gaps), within=1)
    report.add("exit codes other than 0", sum(code != 0 for code in codes), at_most=0)
    report.verify()


_WRITTEN_TWICE = """
SELECT count(*) - count(DISTINCT (route_id, seq)) FROM hookledger.attempt WHERE outcome = 'delivered'
"""


async def _daemons(system: SystemUnderTest, daemons: AsyncExitStack, count: int) -> list[Running]:
    """Starts `count` daemons at the same time."""
    return list(await asyncio.gather(*(daemons.enter_async_context(system.daemon()) for _ in range(count))))


async def _routes(system: SystemUnderTest) -> None:
    """Two routes for each shard: one whose receiver is slow enough that requests are always in flight, one for `busy.*`."""
    for shard, tenant in enumerate(TENANTS):
        await system.route(f"/{shard}", "order.*", tenant=tenant)
        await system.route(f"/busy/{shard}", "busy.*", tenant=tenant)
        system.receiver.behave(f"/{shard}", slow(ANSWER_SECONDS))
    system.producer.tenants = TENANTS


async def _until_shared(system: SystemUnderTest, count: int) -> dict[int, set[int]]:
    """Waits until `count` daemons own all shards and no shard moves. Returns process id → its shards."""
    owned, since = await _owned(system), time.monotonic()
    async with asyncio.timeout(40):
        while (
            time.monotonic() < since + QUIET_SECONDS or len(owned) != count or sum(map(len, owned.values())) != SHARDS
        ):
            await asyncio.sleep(0.05)
            before, owned = owned, await _owned(system)
            since = since if owned == before else time.monotonic()
    return owned


async def _heirs(system: SystemUnderTest, *daemons: Running) -> dict[int, int]:
    """Shard → process id of the one of these daemons that should have it, were there no other."""
    rows = await system.rows("SELECT owner, pid FROM hookledger.process")
    owners = {row["owner"]: row["pid"] for row in rows if row["pid"] in {one.process.pid for one in daemons}}
    return {shard: owners[preferred(shard, owners)] for shard in range(SHARDS)}


async def _owned(system: SystemUnderTest) -> dict[int, set[int]]:
    owned: dict[int, set[int]] = {}
    for row in await system.rows(OWNERS):
        owned.setdefault(row["pid"], set()).add(row["shard"])
    return owned


def _exposed(
    system: SystemUnderTest, shards: Collection[int], recorded: Collection[PathAndEvent], until_at: float
) -> set[PathAndEvent]:
    """The deliveries of these shards that arrived by then and are not recorded. No other daemon sends any so early."""
    paths = {f"/{shard}" for shard in shards}
    arrivals = system.receiver.arrivals()
    return {(one.path, one.event_id) for one in arrivals if one.path in paths and one.at < until_at} - set(recorded)


def _late(system: SystemUnderTest, shards: Collection[int], thawed_at: float) -> set[PathAndEvent]:
    """The deliveries of these shards that arrived again right after the thaw."""
    paths = {f"/{shard}" for shard in shards}
    arrivals = [one for one in system.receiver.arrivals() if one.path in paths]
    known = {(one.path, one.event_id) for one in arrivals if one.at < thawed_at}
    return known & {(one.path, one.event_id) for one in arrivals if thawed_at <= one.at < thawed_at + STRAGGLE_SECONDS}


async def _longest_gap(system: SystemUnderTest, shards: Collection[int], since: float) -> float:
    """Waits until an event published after `since` has arrived for each shard. Returns the longest wait in seconds."""
    log = system.producer.log
    firsts: dict[str, float] = {}

    def all_came() -> bool:
        for one in system.receiver.arrivals():
            if one.at > since and one.event_id in log and log[one.event_id].asked_at > since:
                firsts.setdefault(one.path, one.at - since)
        return all(f"/{shard}" in firsts for shard in shards)

    await until(all_came, seconds=40)
    return max((firsts[f"/{shard}"] for shard in shards), default=0.0)
