"""Requests are not stored: the dashboard builds them again, and they equal those that the receiver got, byte for byte."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID

from aiohttp import web

from daemon import deliveries
from daemon.core.delivery.answer import delivery_id
from daemon.core.routing.route import PayloadOptions, Route
from daemon.core.webhook.request import RequestOptions
from daemon.deliveries import DeliveryDetail, SentRequest
from eventstore.domain_events.events import NewEvent
from eventstore.queries.events import sample_events
from tests.support.pipeline.process import CONTEXT, PipelineProcess, pipeline_process
from tests.support.receivers.receiver import Received, Receiver, receiver, status

# The headers that the HTTP client adds.
_TRANSPORT = {"Host", "Content-Length"}
# As in tests/support/pipeline/process.py.
REQUEST_OPTIONS = RequestOptions(
    signing_header="OrderGroove-Signature",
    standard_webhooks=True,
    user_agent="Hookledger/test",
    max_body_bytes=262_144,
)
SNAPSHOT = b'{"customer": {"name": "Ann",  "big": 12345678901234567890123}, "orders": [{"total": 1.50}]}'


async def shown(it: PipelineProcess, route: Route, event_id: str, *, attempts: int) -> DeliveryDetail:
    """Reads a delivery by its id once `attempts` attempts of it are recorded."""
    await it.until_row("SELECT count(*) >= $1 FROM hookledger.attempt WHERE event_id = $2", attempts, event_id)
    index = it.projection.index
    (at,) = {
        row["event_time"]
        for row in await it.rows("SELECT event_time FROM hookledger.attempt WHERE event_id = $1", event_id)
    }
    pair = await deliveries.find(it.database, index, route.tenant, UUID(delivery_id(route.id, event_id, at)))
    assert pair is not None
    found = await deliveries.detail(it.database, index, it.keychain, pair, request_options=REQUEST_OPTIONS)
    assert found is not None
    return found


def as_shown(sent: SentRequest | None) -> tuple[dict[str, str], bytes]:
    assert sent is not None
    return sent.request.headers, sent.request.body


def as_received(received: Received) -> tuple[dict[str, str], bytes]:
    return {name: value for name, value in received.headers.items() if name not in _TRANSPORT}, received.body


def failing_while(there: Receiver, *steps: Callable[[], Awaitable[object]]) -> None:
    """The first requests, to any path, run a step each and fail; the next one succeeds."""
    left = list(steps)

    async def answer(_request: web.Request) -> web.StreamResponse:
        if not left:
            return web.Response(status=204)
        await left.pop(0)()
        return web.Response(status=500)

    there.answer["/"] = there.answer["/moved"] = answer


async def test_a_request_is_shown_as_it_was_received(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(
            there.url + "/?token=t",
            headers={"X-Shop": "secret", "Authorization": "Bearer b"},
            payload=PayloadOptions(snapshot=(("customer", None),), transform="{a: id, s: snapshot, d: data.object.n}"),
        )
        (event_id,) = await it.publish(snapshot=SNAPSHOT, context=b'{"shop":  "\xc3\xa4"}')
        (received,) = await there.count(1)
        found = await shown(it, route, event_id, attempts=1)

    (sent,) = found.sent
    assert as_shown(sent) == as_received(received)
    assert sent is not None
    assert (sent.target_url, sorted(sent.secret_headers)) == (there.url + "/?token=t", ["Authorization", "X-Shop"])


async def test_bytes_that_no_parser_keeps_are_shown_as_they_were_sent(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url + "/", payload=PayloadOptions(snapshot=(("customer", None), ("orders", None))))
        (event_id,) = await it.publish(snapshot=SNAPSHOT)
        (received,) = await there.count(1)
        found = await shown(it, route, event_id, attempts=1)

    assert b"12345678901234567890123" in received.body
    assert as_shown(found.sent[0]) == as_received(received)


async def test_each_request_is_shown_by_the_route_as_it_was_then(database_url: str) -> None:
    """The route is edited, its key rotated and revoked, and the route deleted between the attempts."""
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url + "/", headers={"X-Old": "1"})

        async def move() -> None:
            await it.edit(route, target_url=there.url + "/moved", headers={"X-New": "2"})

        async def rotate() -> None:
            await it.commands.rotate_key(route.tenant, route.id, CONTEXT)

        async def revoke() -> None:
            await it.commands.revoke_old_key(route.tenant, route.id, CONTEXT)

        failing_while(there, move, rotate, revoke)
        (event_id,) = await it.publish()
        received = list(await there.count(4))
        await it.until_row("SELECT count(*) = 4 FROM hookledger.attempt")
        await it.commands.delete(route.tenant, route.id, CONTEXT)
        found = await shown(it, route, event_id, attempts=4)

    assert [as_shown(sent) for sent in found.sent] == [as_received(each) for each in received]
    assert [sent.target_url for sent in found.sent if sent] == [there.url + "/", *[there.url + "/moved"] * 3]
    assert len({each.headers["OrderGroove-Signature"].count("sig=") for each in received}) == 2
    assert [(exchange.number, exchange.outcome) for exchange in found.exchanges] == [
        (1, "retrying"), (2, "retrying"), (3, "retrying"), (4, "delivered"),
    ]  # fmt: skip


async def test_a_test_event_is_shown_with_its_mark(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url + "/", payload=PayloadOptions(filter="data.object.n > `9`"))
        event = NewEvent(tenant=route.tenant, id="test_1", type="order.create", data=b'{"n": 1}')
        await sample_events.publish(it.database, route.id, [event])
        it.pipeline.hurry()
        (received,) = await there.count(1)
        found = await shown(it, route, "test_1", attempts=1)

    assert received.headers["Hookledger-Test"] == "true"
    assert as_shown(found.sent[0]) == as_received(received)
    assert found.item.found.is_test


async def test_a_body_that_could_not_be_made_has_no_request(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url + "/", payload=PayloadOptions(transform="sum(data.object.n)"))
        (event_id,) = await it.publish()
        found = await shown(it, route, event_id, attempts=1)

    assert found.sent[0] is None
    assert str(found.exchanges[0].error).startswith("render_error")


async def test_of_an_answer_so_much_is_kept_as_is_promised(database_url: str) -> None:
    """512 bytes of a success are kept, 4 KiB of a failure."""
    async with receiver() as there, pipeline_process(database_url) as it:
        for path, code in (("/ok", 200), ("/bad", 400)):
            there.answer[path] = partial(_long, code)
            route = await it.route(there.url + path)
            (event_id,) = await it.publish()
            kept = (await shown(it, route, event_id, attempts=1)).exchanges[0].response_body
            assert kept == b"x" * (512 if code == 200 else 4096)
            await it.disable(route)


async def _long(code: int, _request: web.Request) -> web.StreamResponse:
    return web.Response(status=code, body=b"x" * 10_000)


async def test_the_sentence_of_one_that_was_delivered_stays_though_it_is_sent_again(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url + "/")
        (event_id,) = await it.publish()
        await there.count(1)
        before = await shown(it, route, event_id, attempts=1)
        there.answer["/"] = status(410)  # no more retries follow
        async with it.database.connection() as connection:
            await connection.execute(
                "INSERT INTO hookledger.retry (route_id, seq, recorded_at, event_time, tick, shard, failures, due_at, tenant) "
                "SELECT a.route_id, a.seq, e.recorded_at, a.event_time, a.tick, a.shard, 1, now(), a.tenant "
                "FROM hookledger.attempt a JOIN hookledger.domain_event e USING (seq)"
            )
        after = await shown(it, route, event_id, attempts=2)

    assert [exchange.outcome for exchange in after.exchanges] == ["delivered", "failed"]
    assert before.explanation is not None
    assert after.explanation is not None
    assert (after.item.status, after.explanation.detail) == (before.item.status, before.explanation.detail)
    assert after.item.status == "delivered"
