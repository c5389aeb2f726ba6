"""The database fails over: a standby is promoted that was behind or not, and a name leads to a demoted server.

Clients reach the servers through a proxy, as they do by a name that is moved. What a standby never received is gone with
its primary: nobody can deliver that, so it must be told. All that the new primary has must be delivered.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.faults.producer import PublicationStatus
from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import SystemUnderTest, system_under_test
from tests.support.postgres.fault_proxy import fault_proxy
from tests.support.postgres.replication import VERSIONS, Node, replicated
from tests.support.until import until

TENANTS = ("acme", "bella", "cyan", "dove")
PER_SECOND = 200
LONG_ROUNDS = 10


@pytest.fixture
def rounds(is_long: bool) -> int:
    return LONG_ROUNDS if is_long else 1


async def _until_ready(system: SystemUnderTest) -> None:
    while await system.status("/readyz") != 200:
        await asyncio.sleep(0.02)


class Tally:
    """What became of the events of one or several failovers."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.slowest_ready = 0.0

    async def add(self, system: SystemUnderTest, ready_seconds: float) -> None:
        """Counts the events of a system in which everything has ended."""
        log = system.producer.log
        acknowledged = {event.id for event in log.values() if event.status is PublicationStatus.ACKNOWLEDGED}
        kept = {row["id"] for row in await system.rows("SELECT id FROM hookledger.domain_event")}
        arrived = Counter(arrival.event_id for arrival in system.receiver.arrivals())
        told = await system.rows(
            "SELECT extract(epoch FROM clock_timestamp() - coalesce(since, '-infinity'))::float8 AS began,"
            " extract(epoch FROM clock_timestamp() - until)::float8 AS ended FROM hookledger.lost_log"
        )
        now = time.monotonic()
        lost = [log[event] for event in acknowledged - kept]
        untold = [
            event
            for event in lost
            if not any(now - each["began"] - 1 <= (event.answered_at or 0) <= now - each["ended"] + 1 for each in told)
        ]
        self.counts += Counter(
            {
                "acknowledged": len(acknowledged),
                "lost with the old primary": len(lost),
                "lost and not told": len(untold),
                "kept and never delivered": len(kept - arrived.keys()),
                "delivered twice": sum(times - 1 for times in arrived.values()),
            }
        )
        self.slowest_ready = max(self.slowest_ready, ready_seconds)

    def report_to(self, report: FaultReport) -> None:
        report.add("acknowledged", self.counts["acknowledged"], at_least=1)
        report.add("lost with the old primary", self.counts["lost with the old primary"])
        report.add("of these not told", self.counts["lost and not told"], at_most=0)
        report.add("kept and never delivered", self.counts["kept and never delivered"], at_most=0)
        report.add("delivered twice", self.counts["delivered twice"])
        report.add_duration("ready after the promotion", self.slowest_ready, within=10)


async def _fails_over(
    system: SystemUnderTest, primary: Node, standby: Node, dice: random.Random, lead_on: Callable[[], None]
) -> float:
    """Kills the primary under load and promotes the standby, which was kept behind; returns the seconds until the
    daemon was ready.
    """
    async with system.producer.load(per_second=PER_SECOND, batch=5):
        await system.until_arrived(dice.randint(50, 200))
        await standby.hold()
        behind = len(system.producer.log) + dice.randint(20, 300)
        await until(lambda: len(system.producer.log) > behind, seconds=60)
        primary.kill()
        lead_on()
        await asyncio.to_thread(standby.promote)
        promoted_at = time.monotonic()
        await _until_ready(system)
        ready_seconds = time.monotonic() - promoted_at
        before = len(system.producer.log)
        await until(lambda: len(system.producer.log) > before + 200, seconds=60)
    await system.until_settled()
    return ready_seconds


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_standby_that_is_behind_is_promoted(
    report: FaultReport, dice: random.Random, rounds: int, tmp_path: Path, version: str
) -> None:
    tally = Tally()
    for number in range(rounds):
        with replicated(version) as (primary, standby):
            async with fault_proxy(primary.url) as proxy, system_under_test(proxy.url, tmp_path) as system:
                system.producer.tenants = TENANTS
                async with system.daemon("--workers", str(1 + number % 2)):
                    await asyncio.gather(*(system.route(f"/{tenant}", tenant=tenant) for tenant in TENANTS))
                    await standby.until_caught_up(primary)

                    def lead_on() -> None:
                        proxy.lead_to(standby.url)

                    seconds = await _fails_over(system, primary, standby, dice, lead_on)
                    await tally.add(system, seconds)
                    warnings = (await system.ask("GET", "/v1/status"))["warnings"]
                    lost = tally.counts["lost with the old primary"]
                    assert not lost or any("promoted" in warning for warning in warnings), warnings
    report.add("failovers", rounds)
    tally.report_to(report)
    report.verify()


async def test_a_standby_that_has_everything_is_promoted(
    report: FaultReport, dice: random.Random, tmp_path: Path
) -> None:
    tally = Tally()
    with replicated("18") as (primary, standby):
        async with fault_proxy(primary.url) as proxy, system_under_test(proxy.url, tmp_path) as system:
            system.producer.tenants = TENANTS
            async with system.daemon():
                await asyncio.gather(*(system.route(f"/{tenant}", tenant=tenant) for tenant in TENANTS))
                async with system.producer.load(per_second=PER_SECOND, batch=5):
                    await system.until_arrived(dice.randint(50, 200))
                    # A switchover: the primary ends in good order, and has sent everything by then.
                    await asyncio.to_thread(primary.stop)
                    proxy.lead_to(standby.url)
                    await asyncio.to_thread(standby.promote)
                    promoted_at = time.monotonic()
                    await _until_ready(system)
                    ready_seconds = time.monotonic() - promoted_at
                    before = len(system.producer.log)
                    await until(lambda: len(system.producer.log) > before + 200, seconds=60)
                await system.until_settled()
                await tally.add(system, ready_seconds)
    tally.report_to(report)
    report.verify()
    assert tally.counts["lost with the old primary"] == 0


async def test_the_former_primary_goes_on_after_a_promotion(
    report: FaultReport, dice: random.Random, tmp_path: Path
) -> None:
    """The name leads to the new primary, and nothing cuts the connections to the former one."""
    tally = Tally()
    with replicated("18") as (primary, standby):
        async with fault_proxy(primary.url) as proxy, system_under_test(proxy.url, tmp_path) as system:
            system.producer.tenants = TENANTS
            async with system.daemon():
                await asyncio.gather(*(system.route(f"/{tenant}", tenant=tenant) for tenant in TENANTS))
                await standby.until_caught_up(primary)
                async with system.producer.load(per_second=PER_SECOND, batch=5):
                    await system.until_arrived(dice.randint(50, 200))
                    await asyncio.to_thread(standby.promote)
                    proxy.lead_to(standby.url)
                    promoted_at = time.monotonic()
                    await system.until_row("SELECT count(*) > 0 FROM hookledger.lost_log", seconds=60)
                    noticed_seconds = time.monotonic() - promoted_at
                    await _until_ready(system)
                    ready_seconds = time.monotonic() - promoted_at - noticed_seconds
                    before = len(system.producer.log)
                    await until(lambda: len(system.producer.log) > before + 200, seconds=60)
                await system.until_settled()
                await tally.add(system, ready_seconds)
    report.add_duration("noticed after the promotion", noticed_seconds, within=20)
    tally.report_to(report)
    report.verify()


async def test_a_synchronous_standby_is_away_for_a_while(
    report: FaultReport, dice: random.Random, tmp_path: Path
) -> None:
    """No commit ends then, nor does the server notice who gave one up: what waits must not take all its sessions."""
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'hookledger%'"
    with replicated("18") as (primary, _):
        async with fault_proxy(primary.url) as proxy, system_under_test(proxy.url, tmp_path) as system:
            system.producer.tenants = TENANTS
            async with system.daemon():
                await asyncio.gather(*(system.route(f"/{tenant}", tenant=tenant) for tenant in TENANTS))
                async with system.producer.load(per_second=PER_SECOND, batch=5):
                    await system.until_arrived(dice.randint(50, 200))
                    before = await system.value(sessions)
                    await system.rows("ALTER SYSTEM SET synchronous_standby_names = 'away'")
                    await system.rows("SELECT pg_reload_conf()")
                    most = 0
                    for _ in range(40):
                        await asyncio.sleep(1)
                        most = max(most, await system.value(sessions))
                    assert await system.status("/readyz") == 503
                    await system.rows("ALTER SYSTEM RESET synchronous_standby_names")
                    await system.rows("SELECT pg_reload_conf()")
                    back_at = time.monotonic()
                    await _until_ready(system)
                    ready_seconds = time.monotonic() - back_at
                    published = len(system.producer.log)
                    await until(lambda: len(system.producer.log) > published + 200, seconds=60)
                await system.until_settled()
                found = await system.check_deliveries()
    report.add_check(found)
    report.add("sessions before", before)
    report.add("sessions while it was away", most, at_most=32)
    report.add_duration("ready after it was back", ready_seconds, within=10)
    report.verify()


async def test_a_name_that_leads_to_a_demoted_server_for_a_while(
    report: FaultReport, dice: random.Random, tmp_path: Path
) -> None:
    with replicated("18") as (primary, standby):
        async with fault_proxy(primary.url) as proxy, system_under_test(proxy.url, tmp_path) as system:
            system.producer.tenants = TENANTS
            async with system.daemon():
                await asyncio.gather(*(system.route(f"/{tenant}", tenant=tenant) for tenant in TENANTS))
                async with system.producer.load(per_second=PER_SECOND, batch=5):
                    await system.until_arrived(dice.randint(50, 200))
                    proxy.lead_to(standby.url)
                    proxy.cut()
                    proxy.restore()
                    while await system.status("/readyz") != 503:
                        await asyncio.sleep(0.02)
                    refused = len(system.producer.answers)
                    await until(lambda: len(system.producer.answers) > refused + 20, seconds=60)
                    proxy.lead_to(primary.url)  # and the connections to the standby stay as they are
                    right_at = time.monotonic()
                    answers = system.producer.answers
                    await until(lambda: any(each.status == 202 and each.at > right_at for each in answers), seconds=60)
                    first_seconds = next(e.at for e in answers if e.status == 202 and e.at > right_at) - right_at
                    await _until_ready(system)
                await system.until_settled()
                found = await system.check_deliveries()
    report.add_check(found)
    report.add_duration("first good publish after the name is right", first_seconds, within=3)
    report.verify()
