"""Delivery of an event to its receivers: once to each, signed; and the number of queries and tasks that it takes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import uuid
from collections import Counter
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks
import svix.webhooks

from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.route import PayloadOptions
from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.connect import Database
from tests.support.pipeline.process import CONTEXT, PipelineProcess, pipeline_process
from tests.support.receivers.receiver import Received, Receiver, receiver


def is_ordergroove_signature(header: str, body: bytes, key: str) -> bool:
    """Verifies a signature as a merchant would."""
    parts = header.split(",")
    ts = parts[0].removeprefix("ts=")
    expected = hmac.new(key.encode(), f"{ts}.".encode() + body, hashlib.sha256).hexdigest()
    return any(hmac.compare_digest(f"sig={expected}", part) for part in parts[1:])


def verify(got: Received, key: str) -> None:
    lower = {name.lower(): value for name, value in got.headers.items()}
    assert is_ordergroove_signature(got.headers["OrderGroove-Signature"], got.body, key)
    standardwebhooks.Webhook(key).verify(got.body, lower)
    svix.webhooks.Webhook(key).verify(got.body, lower)


async def test_keys_of_both_kinds_sign_together_during_a_rotation(database_url: str) -> None:
    text, standard = "Schlüssel von früher / 鍵", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    theirs = {"webhook-id", "webhook-timestamp", "webhook-signature"}

    async def sent(it: PipelineProcess, there: Receiver, number: int) -> Received:
        await it.publish("order.create")
        return (await there.count(number))[-1]

    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url + "/orders", verification_key=text)
        alone = await sent(it, there, 1)
        assert is_ordergroove_signature(alone.headers["OrderGroove-Signature"], alone.body, text)
        assert theirs.isdisjoint(name.lower() for name in alone.headers)
        await it.commands.rotate_key("acme", route.id, CONTEXT, verification_key=standard)
        both = await sent(it, there, 2)
        verify(both, standard)
        assert is_ordergroove_signature(both.headers["OrderGroove-Signature"], both.body, text)
        assert both.headers["OrderGroove-Signature"].count("sig=") == 2
        assert len(both.headers["webhook-signature"].split()) == 1
        await it.commands.revoke_old_key("acme", route.id, CONTEXT)
        await it.commands.rotate_key("acme", route.id, CONTEXT, verification_key=text)
        back = await sent(it, there, 3)
        verify(back, standard)
        assert is_ordergroove_signature(back.headers["OrderGroove-Signature"], back.body, text)


async def test_an_event_id_that_is_used_again_a_day_later_is_sent_under_another_webhook_id(database_url: str) -> None:
    def order(number: int) -> NewEvent:
        return NewEvent(tenant="acme", id="order-7", type="order.create", data=b'{"n":%d}' % number)

    async with receiver() as there:
        async with pipeline_process(database_url, run=False) as it:
            await it.route(there.url)
            assert await domain_events.publish(it.database, [order(1)]) == [True]
            assert await domain_events.publish(it.database, [order(2)]) == [False]
            async with it.database.transaction() as connection:
                await connection.execute("SET LOCAL session_replication_role = replica")
                await connection.execute("SELECT hookledger.ensure_partitions(current_date - 2, current_date)")
                for table, column, ago in (("route_event", "effective_at", 72), ("domain_event", "recorded_at", 25)):
                    await connection.execute(
                        f"UPDATE hookledger.{table} SET {column} = {column} - interval '{ago} hours'"
                    )
                await connection.execute("DELETE FROM hookledger.domain_event_midnight")
            assert await domain_events.publish(it.database, [order(3)]) == [True]
        async with pipeline_process(database_url) as it:
            first, second = sorted(await there.count(2), key=lambda got: got.body)
            await it.until_accounted()
    bodies = [json.loads(got.body) for got in (first, second)]
    assert {body["id"] for body in bodies} == {"order-7"}
    assert {body["data"]["object"]["n"] for body in bodies} == {1, 3}
    assert first.headers["webhook-id"] != second.headers["webhook-id"]


async def test_each_event_goes_once_to_each_subscribed_route_and_to_no_other(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        routes = {
            "/all": ("*",),
            "/orders": ("order.*",),
            "/create": ("order.create",),
            "/twice": ("order.create", "order.*", "*"),
            "/items": ("item.change",),
        }
        for path, types in routes.items():
            await it.route(there.url + path, *types)
        await it.route(there.url + "/elsewhere", "*", tenant="globex")
        off = await it.route(there.url + "/off", "*")
        await it.disable(off)
        await it.publish("order.create", "order.cancel", "item.change", count=40)
        await it.publish("order.create", backfill=True)
        await it.until_accounted()
        await it.until_row("SELECT count(*) = 400 FROM hookledger.attempt", seconds=30)
        assert Counter(got.path for got in there.received) == {
            "/all": 120, "/orders": 80, "/create": 40, "/twice": 120, "/items": 40,
        }  # fmt: skip
        assert len({got.headers["webhook-id"] for got in there.received}) == 400
        assert set(map(tuple, (await it.outcomes()).values())) == {("delivered",) * n for n in (3, 4)}


async def test_two_routes_to_one_target_are_two_routes(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        routes = [await it.route(there.url) for _ in range(2)]
        (event_id,) = await it.publish()
        got = await there.count(2)
        await it.until_accounted()
        name = f"{event_id}\n{datetime.now(UTC).date()}"
        assert {r.headers["webhook-id"] for r in got} == {str(uuid.uuid5(route.id, name)) for route in routes}


async def test_three_independent_verifiers_accept_the_signatures(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url)
        await it.publish()
        (got,) = await there.count(1)
        key = await it.commands.reveal_key(await it.commands.load(route.tenant, route.id))
        verify(got, key)
        assert not is_ordergroove_signature(got.headers["OrderGroove-Signature"], got.body + b" ", key)


async def test_the_old_key_signs_along_after_a_rotation_until_it_is_revoked(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url)
        old = await it.commands.reveal_key(await it.commands.load(route.tenant, route.id))
        await it.publish()
        await there.count(1)
        await it.commands.rotate_key(route.tenant, route.id, CONTEXT)
        new = await it.commands.reveal_key(await it.commands.load(route.tenant, route.id))
        await it.publish()
        await there.count(2)
        for key in (old, new):
            verify(there.received[1], key)
        signatures = there.received[1].headers["OrderGroove-Signature"].split(",")[1:]
        assert len(signatures) == len(there.received[1].headers["webhook-signature"].split(" ")) == 2
        await it.commands.revoke_old_key(route.tenant, route.id, CONTEXT)
        await it.publish()
        await there.count(3)
        verify(there.received[2], new)
        assert not is_ordergroove_signature(
            there.received[2].headers["OrderGroove-Signature"], there.received[2].body, old
        )


async def test_the_body_and_the_headers_are_those_of_the_contract(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url + "/hook", headers={"X-Team": "blue"})
        (event_id,) = await it.publish("order.create", context=b'{"by":"job"}', snapshot=b'{"customer":{}}')
        (got,) = await there.count(1)
        (stored,) = await it.rows("SELECT recorded_at FROM hookledger.domain_event")
        assert json.loads(got.body) == {
            "id": event_id,
            "type": "order.create",
            "created": int(stored["recorded_at"].timestamp()),
            "data": {"object": {"n": 0}},
            "context": {"by": "job"},
            "snapshot": {},
        }
        assert got.path == "/hook"
        assert got.headers["Content-Type"] == "application/json"
        assert got.headers["User-Agent"] == "Hookledger/test"
        assert got.headers["X-Team"] == "blue"
        assert got.headers["webhook-id"] == str(uuid.uuid5(route.id, f"{event_id}\n{datetime.now(UTC).date()}"))
        assert got.headers["OrderGroove-Signature"].startswith(f"ts={got.headers['webhook-timestamp']},sig=")


async def test_new_header_values_are_used_by_the_next_request(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url, headers={"Authorization": "Bearer one"})
        await it.publish()
        await there.count(1)
        await it.commands.edit(route.tenant, route.id, {"headers": {"Authorization": "Bearer two"}}, CONTEXT)
        await it.publish()
        await there.count(2)
        assert [got.headers.get("Authorization") for got in there.received] == ["Bearer one", "Bearer two"]


async def test_filter_snapshot_and_transform_shape_what_arrives(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        await it.route(
            there.url,
            payload=PayloadOptions(
                snapshot=(("customer", ("name",)),),
                filter="data.object.n > `0`",
                transform="{who: snapshot.customer.name, n: data.object.n}",
            ),
        )
        await it.publish(count=2, snapshot=b'{"customer":{"name":"Ada","age":36}}')
        await it.until_accounted()
        assert [json.loads(got.body) for got in there.received] == [{"who": "Ada", "n": 1}]


async def test_what_is_not_delivered_is_counted_with_its_reason(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        await it.route(there.url)
        await it.route(there.url, payload=PayloadOptions(filter="`false`"))
        await it.route(there.url, "cart.*")
        await it.publish(count=2)
        await it.until_accounted()
        text = it.metrics.render().decode()
        counted = {word: f'hookledger_decisions_total{{decision="{word}"}} 2.0\n' for word in ("deliver", "filtered")}
        assert [word for word, sample in counted.items() if sample not in text] == []
        assert 'hookledger_decisions_total{decision="not_subscribed"} 0.0\n' in text


async def test_a_large_snapshot_is_cut_outside_of_the_event_loop(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.core.webhook.payload.select", lambda *_: pytest.fail("cut here"))
    async with receiver() as there, pipeline_process(database_url) as it:
        await it.route(there.url, payload=PayloadOptions(snapshot=(("lines", ("n",)),)))
        lines = [{"n": number, "text": "x" * 100} for number in range(500)]
        event = NewEvent(
            tenant="acme",
            id="evt_large",
            type="order.create",
            data=b"{}",
            snapshot=json.dumps({"lines": lines, "other": 1}).encode(),
        )
        await domain_events.publish(it.database, [event])
        (got,) = await there.count(1)
        assert json.loads(got.body)["snapshot"] == {"lines": [{"n": number} for number in range(500)]}


@pytest.mark.parametrize(
    ("options", "data"),
    [
        (PayloadOptions(filter="sum([to_number('1e9999'), to_number('1e-9999')]) == `1`"), b"{}"),
        (PayloadOptions(transform="sum([to_number('1e9999'), to_number('1e-9999')])"), b"{}"),
        (PayloadOptions(transform="abs(data.object.x)"), rb'{"x":"a\u0000b"}'),
        (PayloadOptions(transform="abs(data.object.x)"), rb'{"x":"\ud800"}'),
        (PayloadOptions(filter="abs(data.object.x)"), rb'{"x":"\ud800"}'),
        (PayloadOptions(transform="join('', [data.object.x, 'b'])"), rb'{"x":"\ud800"}'),
    ],
)
async def test_an_expression_that_cannot_cope_fails_one_delivery_and_nothing_else(
    database_url: str, options: PayloadOptions, data: bytes
) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=RetryPolicy(attempts=1)) as it:
        bad = await it.route(there.url + "/bad", payload=options)
        await it.route(there.url + "/good")
        await domain_events.publish(
            it.database, [NewEvent(tenant="acme", id="evt_bad", type="order.create", data=data)]
        )
        await it.publish()
        await there.count(2, path="/good")
        await it.until_accounted()
        assert len(await it.outcomes(bad.id)) == 2
        failed = await it.rows("SELECT event_id, error FROM hookledger.attempt WHERE outcome <> 'delivered'")
        assert all(row["error"].startswith("render_error: ") for row in failed)
        assert "evt_bad" in {row["event_id"] for row in failed}


async def test_a_body_that_cannot_be_made_fails_visibly_with_the_reason(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url, payload=PayloadOptions(transform="abs(data.object.n)"))
        await it.publish(count=1)
        await there.count(1)
        await it.commands.edit(
            route.tenant, route.id, {"payload": PayloadOptions(transform="sum(data.object)")}, CONTEXT
        )
        await it.publish(count=1)
        await it.until_row("SELECT count(*) = 5 FROM hookledger.attempt WHERE error IS NOT NULL")
        rows = await it.rows(
            "SELECT outcome, error, status_code FROM hookledger.attempt WHERE error IS NOT NULL ORDER BY at"
        )
        assert [row["outcome"] for row in rows] == ["retrying"] * 4 + ["failed"]
        assert {row["status_code"] for row in rows} == {None}
        assert all(row["error"].startswith("render_error: ") and "sum()" in row["error"] for row in rows)
        assert len(there.received) == 1


async def test_the_hot_path_makes_no_task_and_no_query_per_delivery(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    connection = Database.connection

    def counting(self: Database, **options: Any) -> AbstractAsyncContextManager[Any]:
        queries["all"] += 1
        return connection(self, **options)

    def make_task(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        code = getattr(coroutine, "cr_code", None)
        if code is not None and "/daemon/" in code.co_filename:
            tasks[code.co_qualname] += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    async with receiver() as there, pipeline_process(database_url) as it:
        for n in range(10):
            await it.route(f"{there.url}/{n}", f"order.t{n}")
        await it.publish(*[f"order.t{n}" for n in range(10)])
        await it.until_accounted()
        monkeypatch.setattr(Database, "connection", counting)
        asyncio.get_running_loop().set_task_factory(make_task)  # type: ignore[arg-type] # typeshed wants a protocol of generics
        await it.publish(*[f"order.t{n}" for n in range(10)], count=100)
        await there.count(1010)
        asyncio.get_running_loop().set_task_factory(None)
        made = queries["all"]
        monkeypatch.undo()
        await it.until_accounted()
        assert made < 150, f"{made} queries for 1,000 deliveries"
        assert not tasks


async def test_an_event_that_our_own_deliveries_led_to_is_delivered_with_one_hop_more(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as daemon:
        await daemon.route(there.url)
        await daemon.publish("order.create")
        await daemon.publish("order.create", hops=2)
        await there.count(2)
    assert sorted(request.headers["Hookledger-Hops"] for request in there.received) == ["1", "3"]
