"""The connection to PostgreSQL is cut, stalls, or loses the answers to commits.

Producers choose event ids because of the last case: the event is stored though its answer was lost, and publishing it
again is a duplicate.
"""

from __future__ import annotations

from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import SystemUnderTest
from tests.support.postgres.fault_proxy import FaultProxy, fault_proxy
from tests.support.until import until


async def test_a_connection_cut_stalled_and_deaf(system: SystemUnderTest, report: FaultReport, is_long: bool) -> None:
    rounds = 5 if is_long else 1
    async with fault_proxy(system.database_url) as proxy, system.daemon(through=proxy.url):
        await system.route("/acme")
        async with system.producer.load(per_second=200):
            for _ in range(rounds):
                await _cut(system, proxy)
                await _stall(system, proxy)
                await _lose_answers(system, proxy)
        await system.until_settled()
    report.add("rounds of cut, stalled, deaf", rounds)
    report.add_check(await system.check_deliveries(), duplicates_at_most=0)
    report.add("answers lost", proxy.lost_bytes, "B", at_least=1)
    report.add("batches that were refused", len(system.producer.refusals()), at_least=1)
    report.add("events stored twice", await system.events_stored_twice(), at_most=0)
    report.verify()


async def _cut(system: SystemUnderTest, proxy: FaultProxy) -> None:
    await system.until_more(50)
    proxy.cut()
    await _until_refused(system)
    proxy.restore()


async def _stall(system: SystemUnderTest, proxy: FaultProxy) -> None:
    await system.until_more(50)
    proxy.stall()
    await _until_refused(system)
    proxy.restore()


async def _lose_answers(system: SystemUnderTest, proxy: FaultProxy) -> None:
    await system.until_more(50)
    stored: int = await system.value("SELECT count(*) FROM hookledger.domain_event")
    proxy.lose_answers()
    await _until_refused(system)
    await system.until_row("SELECT count(*) > $1 FROM hookledger.domain_event", stored)
    proxy.cut()  # clients that wait for a lost answer must get an error
    proxy.restore()


async def _until_refused(system: SystemUnderTest) -> None:
    before = len(system.producer.refusals())
    await until(lambda: len(system.producer.refusals()) > before + 1, seconds=30)
