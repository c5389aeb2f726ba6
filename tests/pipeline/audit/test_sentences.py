"""The sentences of explanations by what a real pipeline left behind, literally but for the moments."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon import audit
from daemon.audit import unknown_events
from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.route import Route
from eventstore.progress import manual_retry, recording
from eventstore.progress.manual_retry import RetryRequest
from tests.support.pipeline.process import CONTEXT, PipelineProcess, pipeline_process
from tests.support.receivers.receiver import receiver, status
from tests.support.rows.credentials import LOG_MACS

SLOW = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=2))
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} UTC")


async def told(it: PipelineProcess, event_id: str, route: Route) -> str:
    """The sentence about an event and a route, with AT in the place of each moment."""
    (explained,) = await audit.explain(it.database, event_id, route_id=route.id)
    return _MOMENT.sub("AT", explained.detail)


async def until_attempt(it: PipelineProcess, event_id: str) -> None:
    await it.until_row("SELECT count(*) > 0 FROM hookledger.attempt WHERE event_id = $1", event_id)
    await it.until_accounted()


async def test_what_somebody_did_to_a_route_is_told_with_who_and_why(database_url: str) -> None:
    why = replace(CONTEXT, actor="token:anna", reason="moving house")
    async with receiver() as there, pipeline_process(database_url, retry=SLOW) as it:
        there.answer["/"] = status(500)
        (early,) = await it.publish()
        await it.until_accounted()
        route = await it.route(there.url + "/")
        (tried,) = await it.publish()
        await until_attempt(it, tried)
        assert await told(it, tried, route) == (
            "Attempt 1 failed at AT: the receiver answered 500 Internal Server Error. Attempt 2 is due at AT."
        )
        await it.commands.disable(route.tenant, route.id, why)
        (missed,) = await it.publish()
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE outcome = 'suppressed'")
        await it.commands.delete(route.tenant, route.id, replace(why, actor="admin", reason=None))
        (late,) = await it.publish()
        await it.until_accounted()
        assert await told(it, early, route) == (
            "The event happened at AT, before the route was created at AT by test. A route gets nothing from before its "
            "creation."
        )
        assert await told(it, tried, route) == (
            "Not sent: the route was disabled at AT by token:anna (“moving house”), after the event and before it could be "
            "delivered. It is never sent afterwards. Before that 1 attempt had failed: the receiver answered 500 Internal "
            "Server Error."
        )
        assert await told(it, missed, route) == (
            "The event happened at AT, while the route was disabled: it had been disabled at AT by token:anna (“moving "
            "house”). It is never sent, not even after an enable."
        )
        assert await told(it, late, route) == "The event happened at AT, after the route was deleted at AT by admin."


async def test_what_failed_may_be_sent_again_until_its_window_closes(database_url: str) -> None:
    why = replace(CONTEXT, actor="token:anna", reason="moving house")
    once = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=2), attempts=1)
    async with receiver() as there, pipeline_process(database_url, retry=once) as it:
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        (failed,) = await it.publish()
        await until_attempt(it, failed)
        why_failed = "Failed for good at AT, after 1 attempt: the receiver answered 500 Internal Server Error. "
        assert await told(it, failed, route) == (
            why_failed + "It is not sent any more, unless somebody has it sent again."
        )
        await it.commands.disable(route.tenant, route.id, why)
        await it.commands.enable(route.tenant, route.id, replace(why, reason="moved"))
        await it.commands.disable(route.tenant, route.id, replace(why, reason="moved back"))
        assert await told(it, failed, route) == (
            why_failed + "It is never sent again: the route was disabled at AT by token:anna (“moving house”)."
        )


async def test_a_delivery_that_waits_says_for_what(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, retry=SLOW, breaker_failures=2, route_concurrency=1) as it,
    ):
        there.answer["/ordered"] = there.answer["/down"] = status(503)
        ordered = await it.route(there.url + "/ordered", "ordered.now", ordered=True)
        (first, second) = await it.publish("ordered.now", count=2)
        await until_attempt(it, first)
        assert await told(it, second, ordered) == (
            f"It waits for an earlier delivery, as the route is ordered: that of event {first}, whose next attempt is due "
            "at AT."
        )
        down = await it.route(there.url + "/down", "down.now")
        failed = await it.publish("down.now", count=8)
        await it.until_row("SELECT count(*) > 0 FROM hookledger.parked WHERE route_id = $1", down.id)
        await it.until_row("SELECT count(*) > 0 FROM hookledger.route_failing WHERE route_id = $1", down.id)
        assert await told(it, failed[-1], down) == (
            "It waits for its receiver, of which every request has failed since AT, at last at AT: the receiver answered "
            "503 Service Unavailable. Until one succeeds only single requests go out to see whether it is back, the next "
            "one by AT."
        )
        paced = await it.route(there.url + "/paced", "paced.now", rate_limit_per_second=0.01)
        sent = await it.publish("paced.now", count=3)
        await it.until_row("SELECT count(*) > 0 FROM hookledger.parked WHERE route_id = $1", paced.id)
        assert await told(it, sent[-1], paced) == (
            "It waits for our rate limit: the route gets at most 0.01 requests a second."
        )
    async with pipeline_process(database_url, run=False) as it:
        (unread,) = await it.publish("paced.now")
        assert await told(it, unread, paced) == (
            "The event was stored at AT, and has not been read yet: no running process sends for this tenant now."
        )


async def test_a_receiver_is_blamed_for_its_own_failures_only(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, retry=SLOW, breaker_failures=2, route_concurrency=1) as it,
    ):
        there.answer["/down"] = status(503)
        route = await it.route(there.url + "/down", rate_limit_per_second=20)
        *_, last = await it.publish(count=8)
        await it.until_row("SELECT count(*) > 0 FROM hookledger.parked WHERE route_id = $1", route.id)
        await it.until_row("SELECT count(*) > 0 FROM hookledger.route_failing WHERE route_id = $1", route.id)
        assert "of which every request has failed since AT" in await told(it, last, route)
        await it.edit(route, target_url=there.url + "/new", rate_limit_per_second=0.01)
        assert await told(it, last, route) == (
            "It waits for our rate limit: the route gets at most 0.01 requests a second."
        )


async def test_what_waits_behind_what_a_disable_ends_says_so(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def suppressed(*_: object, **__: object) -> recording.Suppressed:
        return recording.Suppressed(0, 0)

    async with receiver() as there, pipeline_process(database_url, retry=SLOW) as it:
        route = await it.route(there.url + "/", rate_limit_per_second=0.01)
        await it.publish(count=3)
        await it.until_row("SELECT count(*) > 0 FROM hookledger.parked WHERE route_id = $1", route.id)
        monkeypatch.setattr(recording, "suppress", suppressed)  # as if there were very many
        await it.disable(route)
        await it.enable(route)
        (event_id,) = await it.publish()
        await it.until_accounted()
        await it.until_row("SELECT count(*) > 1 FROM hookledger.parked WHERE route_id = $1", route.id)
        assert await told(it, event_id, route) == (
            "It waits until what waited when the route was disabled has been ended, none of which is sent: that takes a "
            "second for some thousands."
        )


async def test_who_had_it_sent_again_is_told(database_url: str) -> None:
    gone = status(410)
    async with receiver() as there, pipeline_process(database_url, retry=SLOW) as it:
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/", "order.*")
        (event_id,) = await it.publish(occurred_at=datetime.now(UTC) + timedelta(hours=3))
        await until_attempt(it, event_id)
        assert (await told(it, event_id, route)).endswith(
            "Its publisher said that it was to happen at AT, which was still to come; so it counts as of AT."
        )
        there.answer["/"] = gone
        (refused,) = await it.publish()
        await until_attempt(it, refused)
        await it.until_row("SELECT count(*) = 1 FROM hookledger.route_event WHERE type = 'disabled'")
        assert await told(it, refused, route) == (
            "Failed for good at AT, after 1 attempt: the receiver answered 410 Gone. It is never sent again: the route was "
            "disabled at AT by system (“the receiver answered 410 Gone”)."
        )
    async with pipeline_process(database_url, run=False) as it:
        (row,) = await it.rows("SELECT seq FROM hookledger.domain_event WHERE id = $1", refused)
        request = RetryRequest(actor="token:anna", origin="api", reason="the shop is back")
        await manual_retry.retry(it.database, route_id=route.id, seq=row["seq"], request=request, macs=LOG_MACS)
        assert (await told(it, refused, route)).startswith("token:anna had it sent again at AT (“the shop is back”). ")


async def test_an_event_that_retention_dropped_is_told_from_one_that_never_was(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url)
        (event_id,) = await it.publish()
        await until_attempt(it, event_id)
        with pytest.raises(audit.UnknownEvent, match=r"there is no event 'x' of tenant acme: it was never published$"):
            await audit.explain(it.database, "x", tenant=route.tenant)
        await it.rows(
            "INSERT INTO hookledger.meta VALUES ('events_kept_from', (now() + interval '1 hour')::text) RETURNING 1"
        )
        async with it.database.transaction() as connection:
            await connection.execute(
                "SET LOCAL session_replication_role = replica; DELETE FROM hookledger.domain_event"
            )
        with pytest.raises(
            audit.UnknownEvent, match="retention has dropped it since; one of its deliveries was delivered"
        ):
            await audit.explain(it.database, event_id, tenant=route.tenant)
        with pytest.raises(audit.UnknownEvent, match=r"it was never published, or retention has dropped it$"):
            await audit.explain(it.database, "x", tenant=route.tenant)
        of_pages = [
            await unknown_events.sentence(it.database, each, route.tenant, for_people=True) for each in (event_id, "x")
        ]
    assert "is no longer kept; one of its deliveries was delivered" in of_pages[0]
    assert "there is no event 'x' among those that are kept, which are from" in of_pages[1]
    assert not [each for each in of_pages if "retention" in each or "never published" in each or route.tenant in each]
