"""Each alert of deploy/alerts.yaml fires when its reason is caused for real, and stops when that is over.

A daemon runs, something is done to it or to what it needs, and what it exposes meanwhile is drawn out to minutes
(tests/support/faults/alerting.py). Whether the rules themselves are right for made-up series, deploy/alerts_test.yaml says.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from eventstore.domain_events.events import SHARDS
from tests.support.faults.alerting import AFTERWARDS_MINUTES, ALERTS, RULES, SECONDS, WRONG_MINUTES, Watched, gauge
from tests.support.faults.system_under_test import SystemUnderTest
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.lost_log import go_back
from tests.support.processes.broken_streams import FULL, started
from tests.support.processes.clock import WallClock
from tests.support.processes.running import Running
from tests.support.receivers.recording_receiver import FAILING, ResponseMode

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool evaluates the rules")

TESTS = Path(__file__).parents[1]


@asynccontextmanager
async def _locked(url: str, table: str, mode: str = "ACCESS EXCLUSIVE") -> AsyncIterator[None]:
    """Holds a lock, as a migration of somebody else, or a session that was left open, would."""
    locking = await asyncpg.connect(url)
    try:
        await locking.execute(f"BEGIN; LOCK TABLE hookledger.{table} IN {mode} MODE")
        yield
        await locking.execute("ROLLBACK")
    finally:
        locking.terminate()


def test_each_alert_is_caused_somewhere() -> None:
    files = [Path(__file__), TESTS / "kafka" / "test_alerts.py"]
    caused = [name for file in files for name in re.findall(r'assert_fired_and_stopped\("(\w+)"\)', file.read_text())]
    assert sorted(caused) == sorted(ALERTS)


async def test_a_daemon_that_is_killed(system: SystemUnderTest) -> None:
    watched = Watched(system)
    async with system.daemon() as daemon:
        daemon.kill()
        with pytest.raises(aiohttp.ClientError):
            await watched.scrape()
    watched.lapse.add_silence(WRONG_MINUTES)
    async with system.daemon():
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerDown")


async def test_a_database_that_does_not_answer(system_on_own_server: SystemUnderTest, server: Cluster) -> None:
    system, watched = system_on_own_server, Watched(system_on_own_server)
    async with system.daemon():
        await watched.until(lambda found: gauge(found, "hookledger_shards_owned") == SHARDS)
        server.freeze()
        await watched.until(lambda found: gauge(found, "hookledger_shards_owned") == 0)
        await watched.wrong()
        server.thaw()
        await watched.until(lambda found: gauge(found, "hookledger_shards_owned") == SHARDS)
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerShardsWithoutOwner")


async def test_a_session_that_keeps_the_lock_of_ticks(system: SystemUnderTest, database_url: str) -> None:
    watched = Watched(system)
    async with system.daemon():
        await system.route("/acme")
        async with _locked(database_url, "log_lock"):
            await system.producer.publish(1)
            await watched.until(lambda found: gauge(found, "hookledger_tick_age_seconds") > 3)
            await watched.wrong()
        await system.until_arrived(1)
        await watched.until(lambda found: gauge(found, "hookledger_tick_age_seconds") == 0)
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerTickLate")


async def test_a_session_that_keeps_the_lock_of_outcomes(system: SystemUnderTest, database_url: str) -> None:
    watched = Watched(system)
    async with system.daemon():
        await system.route("/acme")
        async with _locked(database_url, "attempt"):
            await system.producer.publish(1)
            await watched.until(lambda found: gauge(found, "hookledger_checkpoint_lag_seconds") > 10)
            await watched.wrong()
        await system.until_settled()
        await watched.until(lambda found: gauge(found, "hookledger_checkpoint_lag_seconds") < 1)
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerCheckpointLag")


async def test_a_disk_that_writes_slowly(system: SystemUnderTest, database_url: str) -> None:
    watched = Watched(system)

    async def written_slowly() -> None:
        for _ in range(3):
            async with _locked(database_url, "attempt"):
                await system.producer.publish(1)
                await asyncio.sleep(1.5)
            await system.until_settled()

    async with system.daemon():
        await system.route("/acme")
        await watched.wrong(meanwhile=written_slowly())
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerFlushSlow")


async def test_a_standby_that_was_promoted_too_early(system: SystemUnderTest, database_url: str) -> None:
    watched = Watched(system)

    async def promoted() -> None:
        sql = await asyncpg.connect(database_url)
        await go_back(sql, tick=1, position=1)
        await sql.close()
        await watched.until(lambda found: gauge(found, "hookledger_database_went_back_total") == 1)

    async with system.daemon():
        await system.route("/acme")
        for _ in range(3):  # each of them gets a tick of its own
            await system.producer.publish(1)
            await system.until_settled()
        await watched.wrong(meanwhile=promoted())
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerDatabaseWentBack")


async def test_a_session_that_keeps_the_lock_of_seals(system: SystemUnderTest, database_url: str) -> None:
    watched = Watched(system)
    async with system.daemon(HOOKLEDGER_SEAL__EVERY_SECONDS="1"):
        await system.route("/acme")
        await system.until_row("SELECT count(*) > 0 FROM hookledger.seal")
        async with _locked(database_url, "seal_lock"):
            await watched.until(lambda found: gauge(found, "hookledger_seal_age_seconds") > 3)
            await watched.wrong()
        await watched.until(lambda found: gauge(found, "hookledger_seal_age_seconds") < 3)
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerSealsStopped")


async def test_a_machine_that_gives_the_daemon_little_time(system: SystemUnderTest) -> None:
    watched = Watched(system)

    async def starved(daemon: Running) -> None:
        for _ in range(8):
            os.kill(daemon.process.pid, signal.SIGSTOP)
            await asyncio.sleep(0.35)
            os.kill(daemon.process.pid, signal.SIGCONT)
            await asyncio.sleep(0.3)

    async with system.daemon() as daemon:
        await watched.wrong(meanwhile=starved(daemon))
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerEventLoopLag")


async def test_receivers_that_fail(system: SystemUnderTest) -> None:
    watched = Watched(system)
    retries = {"HOOKLEDGER_DELIVERY__RETRY_FIRST_SECONDS": "0.2", "HOOKLEDGER_DELIVERY__RETRY_FACTOR": "1"}
    async with system.daemon(**retries):
        await system.route("/acme")
        system.receiver.behave("/acme", FAILING)
        await system.producer.publish(20)
        await system.until_arrived(20)
        await watched.wrong(meanwhile=system.until_more(30))
        system.receiver.behave("/acme", ResponseMode())
        await system.until_settled()
        await watched.note(AFTERWARDS_MINUTES, meanwhile=system.producer.publish(20))
    watched.assert_fired_and_stopped("HookledgerMostAttemptsFail")


async def test_targets_in_a_network_that_is_forbidden(system: SystemUnderTest) -> None:
    watched = Watched(system)
    retries = {"HOOKLEDGER_DELIVERY__RETRY_FIRST_SECONDS": "0.2", "HOOKLEDGER_DELIVERY__RETRY_FACTOR": "1"}
    async with system.daemon():
        await system.route("/acme")
    async with system.daemon(**retries, HOOKLEDGER_EGRESS__DENY_NETS="127.0.0.0/8"):
        await system.producer.publish(20)
        await watched.until(lambda found: gauge(found, "hookledger_egress_denied_total") > 20)
        await watched.wrong()
    async with system.daemon(**retries):
        await system.until_settled()
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerEgressDenied")


async def test_somebody_who_has_written_a_session_into_the_database(system: SystemUnderTest) -> None:
    watched = Watched(system)

    async def shown() -> None:
        headers = {"Cookie": f"hookledger={'x' * 43}"}
        async with system.session.get(f"{system.url}/v1/session", headers=headers) as answer:
            assert (await answer.json())["actor"] == "admin"  # as everybody on loopback without an admin token

    async with system.daemon():
        await system.rows(
            "INSERT INTO hookledger.session (hash, tenant, mac) VALUES (sha256($1::bytea), 'acme', sha256('x'))",
            b"x" * 43,
        )
        await watched.wrong(meanwhile=shown())
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerForgedCredentials")


async def test_more_readers_than_the_database_answers(system: SystemUnderTest, database_url: str) -> None:
    watched = Watched(system)

    async def read(path: str) -> None:
        with suppress(aiohttp.ClientError):
            async with system.session.get(system.url + path, timeout=aiohttp.ClientTimeout(total=SECONDS)):
                pass

    async with system.daemon():
        tenants = [f"tenant-{number}" for number in range(10)]
        routes = [await system.route(f"/{tenant}", tenant=tenant) for tenant in tenants]
        paths = [f"/v1/tenants/{route.tenant}/routes/{route.id}/metrics" for route in routes for _ in range(6)]
        async with _locked(database_url, "route_metric"):
            await watched.wrong(meanwhile=asyncio.gather(*map(read, paths)))
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerQueriesRefused")


async def test_a_session_that_keeps_the_lock_of_events(system: SystemUnderTest, database_url: str) -> None:
    watched = Watched(system)
    body = {"tenant": "acme", "type": "order.create", "data": {}}

    async def refused() -> None:
        async with system.session.post(f"{system.url}/v1/events", json=body) as answer:
            assert answer.status == 503

    async with system.daemon():
        async with _locked(database_url, "domain_event", "EXCLUSIVE"):
            await watched.wrong(meanwhile=refused())
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerRequestsUnavailable")


async def test_a_log_that_cannot_be_written(system: SystemUnderTest) -> None:
    watched = Watched(system)
    dropped = "hookledger_log_lines_dropped_total"

    async def unsaid() -> None:
        before = gauge(await watched.scrape(), dropped)
        await system.producer.publish(20)
        await watched.until(lambda found: gauge(found, dropped) >= before + 20)

    async with started(system.command_line(), shell=FULL.format(stream=2)) as daemon:
        system.url = daemon.url
        await system.route("/acme")
        await watched.wrong(meanwhile=unsaid())
    async with system.daemon():
        await system.until_settled()
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerLogLinesDropped")


async def test_a_clock_that_is_wrong(system: SystemUnderTest, tmp_path: Path) -> None:
    watched = Watched(system)
    clock = WallClock(tmp_path / "clock", path=str(RULES.parents[1]))
    async with system.daemon(**clock.environment):
        clock.shift(60)
        await watched.until(lambda found: abs(gauge(found, "hookledger_clock_skew_seconds")) > 5)
        await watched.wrong()
        clock.shift(0)
        await watched.until(lambda found: abs(gauge(found, "hookledger_clock_skew_seconds")) < 5)
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerClockSkew")
