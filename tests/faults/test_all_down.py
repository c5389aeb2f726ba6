"""All receivers fail, then recover: the backlog is drained in order, and no receiver gets more than its rate limit.

One route is ordered, one has a rate limit, two are plain. The rate is measured over two seconds, so that a short stall
of the receiving process does not look like a burst of the daemon.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from tests.support.faults.delivery_check import most_within
from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import SystemUnderTest
from tests.support.receivers.recording_receiver import FAILING, PROMPT
from tests.support.until import until

RATE_PER_SECOND = 100
WINDOW_SECONDS = 2.0
KINDS = ("ordered", "limited", "plain", "simple")


async def test_all_receivers_down_and_up_again(system: SystemUnderTest, report: FaultReport, is_long: bool) -> None:
    backlog, down_seconds = (50_000, 20) if is_long else (1_200, 2)
    paths = [f"/{kind}" for kind in KINDS]
    settings = {"HOOKLEDGER_DELIVERY__RETRY_FIRST_SECONDS": "1", "HOOKLEDGER_DELIVERY__RETRY_CAP_SECONDS": "2"}
    async with system.daemon(**settings):
        more: dict[str, dict[str, Any]] = {
            "ordered": {"ordered": True},
            "limited": {"rate_limit_per_second": RATE_PER_SECOND},
        }
        for kind in KINDS:
            await system.route(f"/{kind}", f"{kind}.create", **more.get(kind, {}))
            system.receiver.behave(f"/{kind}", FAILING)
        system.producer.types = [f"{kind}.create" for kind in KINDS]
        began = time.monotonic()
        # In small batches: events that are published together have no order.
        await system.producer.publish(backlog, batch=20)
        await system.until_arrived(len(paths))
        await until(lambda: time.monotonic() > began + down_seconds, seconds=down_seconds + 1)
        up_at = time.monotonic()
        for path in paths:
            system.receiver.behave(path, PROMPT)
        await system.until_settled(seconds=1200 if is_long else 60)
    arrivals = system.receiver.arrivals()
    taken = {path: [one.at for one in arrivals if one.path == path and one.is_accepted] for path in paths}
    found = await system.check_deliveries()
    report.add("backlog", backlog)
    report.add_check(found, duplicates_at_most=0)
    report.add("overtaken on the ordered route", len(found.overtaken), at_most=0)
    rate = most_within((one.at for one in arrivals if one.path == "/limited"), WINDOW_SECONDS) / WINDOW_SECONDS
    report.add("limited route, most per second", rate, at_most=RATE_PER_SECOND * 1.2, tolerated=RATE_PER_SECOND * 1.5)
    report.add("plain route drained after", max(taken["/plain"]) - up_at, "s")
    report.add("limited route drained after", max(taken["/limited"]) - up_at, "s")
    report.add("ordered route drained after", max(taken["/ordered"]) - up_at, "s")
    report.add("longest pause while draining", max(b - a for a, b in pairwise(sorted(taken["/limited"]))), "s")
    report.verify()
