"""Filters that are too heavy for the event loop: their tenant waits for them, nobody else does, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from daemon import audit, deliveries
from daemon.commands import NotFound
from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook.payload import EventFilters, FilterResult, PayloadEvent
from daemon.deliveries import DeliveryFilter, replays
from daemon.expressions.evaluator import Evaluator
from daemon.pipeline.tunables import Tunables
from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from eventstore.queries.deliveries.attempts import EventAndRoute
from tests.support.pipeline.process import CONTEXT, PipelineProcess, pipeline_process
from tests.support.receivers.receiver import receiver
from tests.support.rows.credentials import LOG_MACS

LARGE = b'{"l": [%s]}' % b",".join([b'{"k": "%s"}' % (b"x" * 40)] * 1000)
KEEPS = "length(data.object.l[?contains(k, 'x')]) > `{}`"
OVER = "length(data.object.l[?contains(k, 'x') && contains(k, 'xx') && contains(k, 'xxx')]) > `{}`"


async def publish(daemon: PipelineProcess, *ids: str, tenant: str = "acme", data: bytes = LARGE) -> None:
    events = [NewEvent(tenant=tenant, id=id, type="order.create", data=data) for id in ids]
    await domain_events.publish(daemon.database, events)
    daemon.pipeline.hurry()


def filtered(text: str) -> dict[str, Any]:
    return {"payload": PayloadOptions(filter=text)}


def held_answers(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Has heavy filters answered once the event is set."""
    may_answer = asyncio.Event()
    answered = Evaluator.filter_results

    async def held(*arguments: Any) -> Any:
        await may_answer.wait()
        return await answered(*arguments)

    monkeypatch.setattr(Evaluator, "filter_results", held)
    return may_answer


async def agrees(daemon: PipelineProcess) -> None:
    now = datetime.now(UTC)
    report = await audit.audit(daemon.database, start=now - timedelta(hours=1), end=now + timedelta(hours=1))
    assert (report.findings, report.unread) == ([], 0)
    assert report.deliveries


async def test_a_heavy_filter_decides_as_the_audit_does_and_in_order(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as daemon:
        await daemon.route(there.url + "/due", ordered=True, **filtered(KEEPS.format(10)))
        await daemon.route(there.url + "/not", **filtered(KEEPS.format(10_000)))
        await daemon.route(there.url + "/cheap", **filtered("id != 'e3'"))
        await publish(daemon, "e1", "e2")
        await publish(daemon, "e3", data=b"{}")
        await publish(daemon, "e4")
        await there.count(6)
        await daemon.until_accounted()
        await agrees(daemon)
        due = [r.body for r in there.received if r.path == "/due"]
        assert [body[:11] for body in due] == [b'{"id":"e1",', b'{"id":"e2",', b'{"id":"e4",']
        assert {r.path for r in there.received} == {"/due", "/cheap"}
        assert daemon.metrics.registry.get_sample_value("hookledger_expression_seconds_count")


async def test_a_filter_over_budget_fails_its_delivery_with_a_sentence_and_no_other(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as daemon:
        bad = await daemon.route(there.url + "/bad", **filtered(OVER.format(1)))
        await daemon.route(there.url + "/good")
        await publish(daemon, "e1")
        await there.count(1)
        await daemon.until_row("SELECT EXISTS (SELECT FROM hookledger.attempt WHERE error IS NOT NULL)")
        await daemon.until_accounted()
        await agrees(daemon)
        (row, *_) = await daemon.rows("SELECT error, route_id FROM hookledger.attempt WHERE error IS NOT NULL")
        assert row["route_id"] == bad.id
        assert "too many steps for an event of this size" in row["error"]
        assert {r.path for r in there.received} == {"/good"}
        labels = {"reason": "filter"}
        assert daemon.metrics.registry.get_sample_value("hookledger_tenant_over_budget_total", labels) == 1


async def test_others_are_decided_while_a_heavy_event_waits_and_no_checkpoint_passes_it(
    database_url: str, monkeypatch: Any
) -> None:
    may_answer = held_answers(monkeypatch)
    async with receiver() as there, pipeline_process(database_url) as daemon:
        await daemon.route(there.url + "/heavy", **filtered(KEEPS.format(10)))
        await daemon.route(there.url + "/other", tenant="globex")
        await publish(daemon, "e1")
        await publish(daemon, "o1", tenant="globex", data=b"{}")
        await there.count(1)
        await publish(daemon, "o2", tenant="globex", data=b"{}")
        await there.count(2)
        assert {r.path for r in there.received} == {"/other"}
        stands = "SELECT tick FROM hookledger.checkpoint WHERE shard = hookledger.shard_of($1)"
        tick_of = "(SELECT hookledger.tick_of(txid) FROM hookledger.domain_event WHERE id = $2)"
        await daemon.until_row(f"SELECT ({stands}) >= {tick_of}", "globex", "o2")
        assert (await daemon.rows(f"SELECT ({stands}) < {tick_of} AS is_before", "acme", "e1"))[0]["is_before"]
        may_answer.set()
        await there.count(3)
        await daemon.until_accounted()
        await agrees(daemon)


async def test_a_reader_of_decisions_leaves_heavy_filters_to_the_evaluator(database_url: str, monkeypatch: Any) -> None:
    asked: list[list[str]] = []

    async def noted(
        _evaluator: Evaluator, _tenant: str, event: PayloadEvent, filters: Sequence[str]
    ) -> dict[str, FilterResult]:
        asked.append(list(filters))
        return {text: EventFilters(event).result(text) for text in filters}

    monkeypatch.setattr(Evaluator, "filter_results", noted)
    due, not_due = KEEPS.format(10), KEEPS.format(10_000)
    async with pipeline_process(database_url, run=False) as it:
        route = await it.route("https://example.com/due", **filtered(due))
        other = await it.route("https://example.com/not", **filtered(not_due))
        await publish(it, "e1")
        await it.rows("SELECT hookledger.make_tick()")
        index, places = it.projection.index, it.pipeline.filter_places
        told = await audit.explain(it.database, "e1", tenant="acme", live=index, places=places)
        assert {each.route_id: each.verdict.value for each in told} == {route.id: "pending", other.id: "filtered"}
        assert asked == [[due, not_due]], "both at once"

        asked.clear()
        of_tenant = DeliveryFilter(tenant="acme")
        listed = await deliveries.page(it.database, index, of_tenant, begin=None, limit=10, places=places)
        assert [item.found.position.route_id for item in listed.items] == [route.id]
        assert sorted(asked) == sorted([[due], [not_due]])

        asked.clear()
        (event,) = await domain_events.find(it.database, "e1")
        for each, is_due in ((route, True), (other, False)):
            timeline = index.timeline(each.id)
            assert timeline is not None
            pair = EventAndRoute(seq=event.seq, route_id=each.id, event_id=event.id, event_time=event.event_time)
            with nullcontext() if is_due else pytest.raises(NotFound):
                await replays.retry_now(it.database, timeline, pair, CONTEXT, places=places, macs=LOG_MACS)
        assert asked == [[due], [not_due]]


async def test_what_was_deferred_when_the_daemon_stopped_is_decided_by_the_next(
    database_url: str, monkeypatch: Any
) -> None:
    deferred = asyncio.Event()

    async def never(*_arguments: Any) -> Any:
        deferred.set()
        await asyncio.Event().wait()

    async with receiver() as there:
        with monkeypatch.context() as patched:
            patched.setattr(Evaluator, "filter_results", never)
            async with pipeline_process(database_url) as daemon:
                await daemon.route(there.url + "/heavy", **filtered(KEEPS.format(10)))
                await publish(daemon, "e1", "e2")
                await deferred.wait()
        async with pipeline_process(database_url) as daemon:
            await there.count(2)
            await daemon.until_accounted()
            await agrees(daemon)
    assert len(there.received) == 2


async def test_a_shard_with_too_many_deferred_events_falls_behind_alone(database_url: str, monkeypatch: Any) -> None:
    may_answer = held_answers(monkeypatch)
    async with receiver() as there, pipeline_process(database_url, tunables=Tunables(deferred_of_shard=2)) as daemon:
        await daemon.route(there.url + "/heavy", **filtered(KEEPS.format(10)))
        await daemon.route(there.url + "/other", tenant="globex")
        for number in range(6):
            await publish(daemon, f"e{number}")
            await publish(daemon, f"o{number}", tenant="globex", data=b"{}")
            await there.count(number + 1)
        may_answer.set()
        await there.count(12)
        await daemon.until_accounted()
        await agrees(daemon)
    assert len(there.received) == 12


async def test_a_tenant_whose_share_of_memory_is_full_holds_up_no_filters_of_others(database_url: str) -> None:
    opened = asyncio.Event()

    async def held(_request: web.Request) -> web.StreamResponse:
        await opened.wait()
        return web.Response(status=204)

    tunables = Tunables(deferring_tenants=1, max_pairs=20, shard_part=0.25, persist_seconds=60, aside_tenants=0)
    async with receiver() as there, pipeline_process(database_url, timeout_seconds=60, tunables=tunables) as daemon:
        there.answer["/held"] = held
        await daemon.route(there.url + "/held", **filtered(KEEPS.format(10)))
        await daemon.route(there.url + "/other", tenant="globex", **filtered(KEEPS.format(10)))
        await publish(daemon, *[f"e{number}" for number in range(12)])
        await there.count(5, path="/held")
        await publish(daemon, "o1", "o2", tenant="globex")
        await there.count(2, path="/other", seconds=10)
        opened.set()
        await there.count(12, path="/held")
        await daemon.until_accounted()
        await agrees(daemon)
    assert [body[:12] for body in (each.body for each in there.at("/other"))] == [b'{"id":"o1","', b'{"id":"o2","']


async def test_a_heavy_transform_is_rendered_elsewhere_and_sent_with_the_options_of_then(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as daemon:
        route = await daemon.route(there.url + "/t", payload=PayloadOptions(transform="length(data.object.l)"))
        await publish(daemon, "e1")
        await there.count(1)
        await daemon.edit(route, payload=PayloadOptions(transform="[length(data.object.l)]"))
        await publish(daemon, "e2")
        await there.count(2)
    assert [r.body for r in there.received] == [b"1000", b"[1000]"]
