"""A history by the real pipeline, with everything that an audit looks at; its events and routes have speaking names.

ok         gets everything; edited, key rotated, its header changed        flaky      fails once, then succeeds
down       fails for good; some sent again by hand and by a replay         picky      has a filter
late       fails, and waits for its retry when all ends                    closed     disabled while retries waited
stuck      answers nothing: deliveries in packed rows and a range          gone       deleted after a delivery

There are a token, a session and a login link as well.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from daemon.audit import DeliverySchedule
from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.route import PayloadOptions, Route
from daemon.deliveries import replays
from daemon.deliveries.replays import ReplayPeriod, ReplayStatus
from daemon.pipeline.tunables import Tunables
from eventstore import domain_events
from eventstore.access import sessions
from eventstore.access.sessions import PendingLink
from eventstore.domain_events.events import NewEvent
from eventstore.progress import manual_retry
from eventstore.progress.manual_retry import RetryRequest
from tests.support.pipeline.crash import crashing_process
from tests.support.pipeline.process import CONTEXT, PipelineProcess, pipeline_process
from tests.support.receivers.receiver import Receiver, gate, once, receiver, status
from tests.support.rows.credentials import LOG_MACS, MACS
from tests.support.web.tokens import token

TENANT = "acme"
QUICK = RetryPolicy(first=timedelta(seconds=0.05), cap=timedelta(seconds=0.05), attempts=3)
SLOW = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=2), attempts=60)
SCHEDULE = DeliverySchedule(retry=SLOW, timeout=timedelta(seconds=10))
# Small lanes, so that a few deliveries fill packed rows and begin a range.
_TUNABLES = Tunables(lane_queue=4, unmeasured_lane_queue=4, low_water=4, range_pairs=8)
_PAST, _FUTURE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


async def audited_history(database_url: str) -> dict[str, UUID]:
    """Writes the history into an empty database. Returns the ids of the routes by their names."""
    async with receiver() as there:
        there.answer |= {f"/{name}": status(500) for name in ("down", "late", "closed")}
        there.answer["/flaky"] = once(status(500))
        routes: dict[str, Route] = {}
        async with pipeline_process(database_url, retry=QUICK, tunables=_TUNABLES, breaker_failures=1000) as it:
            await _until_all_has_ended(it, there, routes)
        gate(there, "/stuck")
        async with crashing_process(
            database_url, retry=SLOW, tunables=_TUNABLES, breaker_failures=1000, route_concurrency=1
        ) as it:
            await _until_some_waits(it, there, routes)
            await _let_in(it)
    return {name: route.id for name, route in routes.items()}


async def _let_in(it: PipelineProcess) -> None:
    await token(it.database, "tenant:acme", name="Shop")
    link = PendingLink(tenant=TENANT, actor="jane", role="view")
    for secret in (b"1" * 32, b"2" * 32):
        await sessions.add_link(it.database, secret, link, created_by="test", life=timedelta(hours=1), macs=MACS)
    assert await sessions.begin(it.database, b"1" * 32, b"3" * 32, macs=MACS) is not None


async def _until_all_has_ended(it: PipelineProcess, there: Receiver, routes: dict[str, Route]) -> None:
    await _publish(it, "before-all", "order.create")
    routes["ok"] = await it.route(f"{there.url}/ok", "order.*", headers={"X-One": "1"})
    for name in ("down", "flaky", "late", "closed", "stuck", "gone"):
        routes[name] = await it.route(f"{there.url}/{name}", f"{name}.*")
    filtered = PayloadOptions(filter="data.object.n == `1`")
    routes["picky"] = await it.route(f"{there.url}/picky", "picky.*", payload=filtered)
    routes["other"] = await it.route(f"{there.url}/other", "*", tenant="globex")
    await _publish(it, "first", "order.create")
    await _publish(it, "past", "order.create", occurred_at=datetime.now(UTC) - timedelta(microseconds=50))
    await _publish(it, "future", "order.create", occurred_at=datetime.now(UTC) + timedelta(hours=1))
    await _publish(it, "import", "order.create", backfill=True)
    await _publish(it, "foreign", "order.create", tenant="globex")
    await _publish(it, "bye", "gone.now")
    await _publish(it, "picked", "picky.a", data=b'{"n":1}')
    await _publish(it, "left", "picky.a", data=b'{"n":2}')
    for name in ("failed", "again", "replayed", "lost"):
        await _publish(it, name, "down.now" if name != "replayed" else "down.replay")
    await it.until_row("SELECT count(*) = 4 FROM hookledger.attempt WHERE outcome = 'failed'")
    await it.edit(routes["ok"], event_types=("order.*", "item.*"))
    await it.commands.rotate_key(TENANT, routes["ok"].id, CONTEXT)
    await it.commands.edit(TENANT, routes["ok"].id, {"headers": {"X-Two": "2"}}, CONTEXT)
    await it.until_accounted()
    await it.commands.delete(TENANT, routes["gone"].id, CONTEXT)
    await _publish(it, "too-late", "gone.now")
    await _publish(it, "flaky", "flaky.now")
    await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE event_id = 'flaky' AND outcome = 'delivered'")
    del there.answer["/down"]
    await _send_again(it, routes["down"], "again")
    failed = await replays.begin(
        it.database,
        _current(it, routes["down"]),
        ReplayPeriod(since=_PAST, until=_FUTURE),
        ReplayStatus.FAILED,
        CONTEXT,
        macs=LOG_MACS,
    )
    await it.until_row("SELECT state = 'done' FROM hookledger.replay WHERE id = $1", failed.id)
    await it.until_accounted()


async def _until_some_waits(it: PipelineProcess, there: Receiver, routes: dict[str, Route]) -> None:
    await _publish(it, "second", "item.change")
    for number in range(3):
        await _publish(it, f"late-{number}", "late.now")
        await _publish(it, f"closed-{number}", "closed.now")
    await it.until_row("SELECT count(*) = 6 FROM hookledger.attempt WHERE event_type IN ('late.now', 'closed.now')")
    await it.disable(routes["closed"])
    await _publish(it, "while-closed", "closed.now")
    await it.until_row("SELECT count(*) = 3 FROM hookledger.attempt WHERE outcome = 'suppressed'")
    for number in range(40):
        await _publish(it, f"stuck-{number}", "stuck.now")
        await it.until_row(
            "SELECT NOT hookledger.has_news((SELECT snap FROM hookledger.tick ORDER BY tick DESC LIMIT 1))"
        )
    await it.until_row("SELECT coalesce(sum(pairs), 0) > 3 FROM hookledger.parked_range")
    await it.until_row("SELECT count(*) = 1 FROM hookledger.retry WHERE holder IS NOT NULL")
    await it.until_accounted()


async def _publish(it: PipelineProcess, id: str, type: str, *, tenant: str = TENANT, **more: Any) -> None:
    event = NewEvent(tenant=tenant, id=id, type=type, **{"data": b"{}"} | more)
    await domain_events.publish(it.database, [event])
    it.pipeline.hurry()


async def _send_again(it: PipelineProcess, route: Route, event_id: str) -> None:
    (row,) = await it.rows("SELECT seq FROM hookledger.domain_event WHERE id = $1", event_id)
    await manual_retry.retry(
        it.database, route_id=route.id, seq=row["seq"], request=RetryRequest(actor="test", origin="test"), macs=LOG_MACS
    )
    await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE event_id = $1 AND number = 4", event_id)


def _current(it: PipelineProcess, route: Route) -> Route:
    timeline = it.projection.index.timeline(route.id)
    assert timeline is not None
    return timeline.current
