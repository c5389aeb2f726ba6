"""One tenant's expensive filters: what the others see, and that the tenant's own events all end.

Everything is compared with the same daemon a moment before, in one run. What the others see is the time of a publish
request and the time until arrival. Their tenants are of other shards and of the hostile tenant's own.
"""

from __future__ import annotations

import asyncio
import json
import time

from eventstore.domain_events.events import shard_of
from tests.support.faults.report import FaultReport
from tests.support.faults.seen_by_others import compare, seen_by_others
from tests.support.faults.system_under_test import SystemUnderTest

ROUTES = 20
HOSTILE_EVENTS = 3
HOSTILE_EVENTS_LONG = 20
EVENT_BYTES = 132_000
EPOCHS = "SELECT sum(epoch)::bigint FROM hookledger.lease"


def _neighbour(tenant: str) -> str:
    """Another tenant of the same shard."""
    return next(name for name in map("n{}".format, range(1000)) if shard_of(name) == shard_of(tenant))


async def _publish_hostile(system: SystemUnderTest, tenant: str, events: int) -> None:
    """One batch of large events, in lists of small objects that a filter reads one by one."""
    items = [{"k": f"x{number}"} for number in range(EVENT_BYTES // len('{"k": "x10000"}, '))]
    lines = [
        json.dumps({"tenant": tenant, "id": f"h{number}", "type": "order.create", "data": {"l": items}})
        for number in range(events)
    ]
    async with system.session.post(
        f"{system.url}/v1/events", data="\n".join(lines), headers={"Content-Type": "application/x-ndjson"}
    ) as response:
        assert response.status == 202, await response.text()


async def test_two_routes_that_deliver_to_each_other(system: SystemUnderTest, report: FaultReport) -> None:
    async with system.daemon(HOOKLEDGER_DELIVERY__RETRY_ATTEMPTS="1") as daemon:
        for here, there in (("a", "b"), ("b", "a")):
            shaped = f"{{tenant: 'acme', type: 'loop.{there}', data: data.object}}"
            await system.route("/v1/events", f"loop.{here}", url=daemon.url, payload={"transform": shaped})
        await system.producer.publish(1, type="loop.a")
        await system.until_settled()
        hops = [row["hops"] for row in await system.rows("SELECT hops FROM hookledger.domain_event ORDER BY seq")]
        codes = await system.rows("SELECT status_code, outcome FROM hookledger.attempt ORDER BY seq")
    assert [tuple(row.values()) for row in codes] == [*[(202, "delivered")] * 3, (508, "failed")]
    report.add("events of one, with those that it led to", len(hops), at_most=4)
    report.verify()
    assert hops == [None, 1, 2, 3]


async def test_a_tenant_with_expensive_filters(system: SystemUnderTest, report: FaultReport, is_long: bool) -> None:
    events = 3_000 if is_long else 300
    hostile_events = HOSTILE_EVENTS_LONG if is_long else HOSTILE_EVENTS
    others = [*(f"other{number}" for number in range(6)), _neighbour("hostile")]
    # One attempt is the last: what fails is at its end.
    async with system.daemon("--workers", "2", HOOKLEDGER_DELIVERY__RETRY_ATTEMPTS="1"):
        await asyncio.gather(*(system.route(f"/{tenant}", tenant=tenant) for tenant in others))
        for number in range(ROUTES):
            text = f"length(data.object.l[?contains(k,'x')])>`{number + 1}`"
            await system.route(f"/hostile{number}", tenant="hostile", payload={"filter": text})
        system.producer.tenants = others
        await system.producer.publish(200)  # warms up keys, connections and code paths
        await system.until_settled()
        before = await seen_by_others(system, events)
        epochs = await system.value(EPOCHS)
        await _publish_hostile(system, "hostile", hostile_events)
        beside = await seen_by_others(system, events)
        began_at = time.monotonic()
        ended = "SELECT count(*) = $1 FROM hookledger.attempt WHERE tenant = 'hostile' AND outcome <> 'retrying'"
        await system.until_row(ended, ROUTES * hostile_events, seconds=100)
        ended_seconds = time.monotonic() - began_at
        await system.until_settled()
        leases_lost = await system.value(EPOCHS) - epochs
        found = await system.check_deliveries([f"/{tenant}" for tenant in others])
    report.add_check(found, duplicates_at_most=0)
    report.add("leases lost", leases_lost, at_most=0)
    report.add("until the hostile tenant's events ended", ended_seconds, "s")
    compare(report, before, beside)
    report.verify()
