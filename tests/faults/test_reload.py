"""SIGHUP under load: one incarnation of the daemon goes on where the other ends, so nothing is lost or sent twice.

Some signals come twice, and the last one is followed by a SIGTERM, in the middle of the reload.
"""

from __future__ import annotations

import random
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import SystemUnderTest
from tests.support.processes.running import Running
from tests.support.until import until

TENANTS = ("acme", "bella", "cyan", "dove")


def reloads_of(daemon: Running) -> int:
    assert not daemon.events("config.refused", "worker.died", "incarnation.cancelled")
    return len(daemon.events("config.reloaded"))


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_daemon_reloaded_under_load(
    system: SystemUnderTest,
    report: FaultReport,
    dice: random.Random,
    is_long: bool,
    tmp_path: Path,
    workers: str,
) -> None:
    reloads = 20 if is_long else 4
    file = tmp_path / "hookledger.toml"
    file.write_text("")
    system.producer.tenants = TENANTS
    async with AsyncExitStack() as load:
        async with system.daemon("--workers", workers, HOOKLEDGER_CONFIG=str(file)) as daemon:
            for tenant in TENANTS:
                await system.route(f"/{tenant}", tenant=tenant)
            await load.enter_async_context(system.producer.load(per_second=400))
            for number in range(reloads):
                await system.close_and_open(system.routes[number % len(TENANTS)])
                await system.until_more(dice.randint(50, 400))
                file.write_text(f"[delivery]\nroute_concurrency = {16 + number}\n")
                before = reloads_of(daemon)
                for _ in range(1 + number % 2):
                    daemon.process.send_signal(signal.SIGHUP)
                await until(lambda before=before: reloads_of(daemon) > before)  # type: ignore[misc]
            await system.until_more(dice.randint(50, 400))
            daemon.process.send_signal(signal.SIGHUP)
            report.add("exit code of a stop during a reload", await daemon.stop(), at_most=0)
        async with system.daemon("--workers", workers):
            await load.aclose()
            await system.until_settled()
            await system.learn_windows()
    report.add("reloads", reloads)
    report.add_check(await system.check_deliveries(), duplicates_at_most=0)
    report.verify()
