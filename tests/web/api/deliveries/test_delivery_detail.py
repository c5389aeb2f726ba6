"""GET /v1/tenants/{t}/deliveries/{id}: everything that is kept of a delivery, found by its id alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from daemon import route_state
from daemon.core.delivery.answer import delivery_id, delivery_key
from daemon.core.delivery.tls_fault import TlsFault
from daemon.core.gcra import Allowance
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route
from daemon.core.sentences.failures import clause
from daemon.web.access.limits import TENANT_LIMITS as ALLOWED
from daemon.web.api.deliveries import deliveries
from daemon.web.http.endpoints import RateLimit
from daemon.web.http.services import SERVICES
from eventstore import route_log
from eventstore.domain_events import ticks
from eventstore.route_log.log import RouteEvent
from tests.support.rows.delivery_log import TENANT, delivery_log, expected_fields
from tests.support.rows.recorded import age_events, age_routes, recorded
from tests.support.web.application import Answer, App, path
from tests.support.web.application import app as opened
from tests.support.web.evaluator import evaluator_of

LISTS = "/v1/tenants/acme/deliveries"


async def shown(app: App, which: str) -> dict[str, Any]:
    answer = await app.ask("GET", f"{LISTS}/{which}")
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


async def test_a_delivery_has_every_attempt_with_request_and_answer(app: App) -> None:
    it = await recorded(app, data={"total": 5}, headers={"X-Shop": "clear"})
    failed = it.row("retrying", status_code=500, error="http_500", response_body=b"no")
    await it.record(failed, it.row("delivered", number=2))

    found = await shown(app, it.id)

    assert set(found) == {
        "id", "event", "route", "status", "last_attempt", "next_attempt_at", "test", "detail", "attempts",
        "manual_retries",
    }  # fmt: skip
    assert (found["id"], found["status"], found["test"], found["manual_retries"]) == (it.id, "delivered", False, [])
    assert (found["event"]["id"], found["event"]["type"]) == ("e1", "order.create")
    assert found["route"] == {"id": it.route["id"], "name": it.route["name"]}
    assert found["detail"].startswith(
        "Delivered at 2026-11-23 08:00:00.042000 UTC: the receiver answered 200 OK to attempt 2."
    )
    first, second = found["attempts"]
    assert (first["number"], first["outcome"], first["status_code"], first["error"], first["duration_ms"]) == (
        1, "retrying", 500, "http_500", 42,
    )  # fmt: skip
    assert first["response"] == {
        "head": [["Content-Type", "text/plain"], ["X-Twice", "a"], ["X-Twice", "b"]],
        "body": "no",
        "encoding": "text",
        "truncated": False,
    }
    assert (second["request"]["method"], second["request"]["url"]) == ("POST", it.route["target_url"])
    assert second["request"]["headers"]["X-Shop"] == "***"
    assert second["request"]["headers"]["webhook-id"] == it.id
    assert second["request"]["headers"]["webhook-timestamp"] == "1795420800"
    assert '"data":{"object":{"total":5}}' in second["request"]["body"]
    assert "clear" not in str(found)


@pytest.mark.parametrize(
    ("body", "shown_body", "encoding", "truncated"),
    [
        (b"", "", "text", False),
        ("grüß".encode(), "grüß", "text", False),
        (b"\xff\xfe", "//4=", "base64", False),
        (b"x" * 511 + "ü".encode()[:1], "x" * 511, "text", True),
        (b"x" * 512, "x" * 512, "text", True),
    ],
)
async def test_what_was_kept_of_a_body_is_text_if_it_is_any(
    app: App, body: bytes, shown_body: str, encoding: str, truncated: bool
) -> None:
    it = await recorded(app)
    await it.record(it.row("delivered", response_body=body))

    answered = (await shown(app, it.id))["attempts"][0]["response"]

    assert (answered["body"], answered["encoding"], answered["truncated"]) == (shown_body, encoding, truncated)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        ("timeout", "timeout", "did not answer within the time limit. Answer 200 as soon as the event is stored"),
        ("http_500", "http_500", "an error on its side. Look for this moment in your own log"),
        ("render_error: a: b", "render_error: a: b", "payload settings: a: b. Try the filter"),
        *((f"tls_error: {fault.detail}", "tls_error", f"{fault.cause}. {fault.step[0].upper()}") for fault in TlsFault),
    ],
)
async def test_a_failed_request_has_the_code_of_its_error_and_help(app: App, error: str, code: str, words: str) -> None:
    it = await recorded(app)
    status = int(error.removeprefix("http_")) if error.startswith("http_") else None
    await it.record(it.row("failed", status_code=status, error=error, response_head=None, response_body=None))

    delivery = await shown(app, it.id)
    (attempt,) = delivery["attempts"]

    assert (attempt["response"], attempt["error"], attempt["request"] is None) == (None, code, False)
    assert words in attempt["error_help"]
    assert delivery["last_attempt"]["error"] == code
    assert delivery["detail"].startswith("Failed for good at 2026-11-23 08:00:00.042000 UTC, after 1 attempt: ")
    assert clause(error) in delivery["detail"]


async def test_long_bodies_of_older_requests_are_left_out(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    it = await recorded(app, data={"text": "x" * 1000})
    monkeypatch.setattr(deliveries, "MAX_BODIES_BYTES", 2500)
    await it.record(*(it.row("retrying", number=number) for number in (1, 2, 3)))

    attempts = (await shown(app, it.id))["attempts"]

    assert [attempt["request"]["body"] is None for attempt in attempts] == [True, False, False]


async def test_heavy_transforms_of_requests_are_left_to_the_evaluation_process_and_done_once(app: App) -> None:
    """A thread would share the interpreter's lock with the event loop, and so would delay everybody."""
    lines = [{"k": number} for number in range(5000)]
    it = await recorded(app, data={"l": lines}, payload={"transform": "data.object.l[*].k"})
    await it.record(*(it.row("retrying", number=number) for number in (1, 2, 3)))

    attempts = (await shown(app, it.id))["attempts"]

    assert [len(orjson.loads(attempt["request"]["body"])) for attempt in attempts] == [5000] * 3
    assert evaluator_of(app).turns == ["acme asks"]


async def test_requests_are_built_with_the_last_payload_options_only(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a tenth of a second, and as many bytes as an event; a tenant may edit and retry for weeks."""
    monkeypatch.setattr(import_module("daemon.deliveries.sent_requests"), "MAX_BODIES", 2)
    it = await recorded(app)
    for version, transform in ((2, "id"), (3, "type"), (4, "id"), (5, "created")):
        edited = await app.ask("PATCH", path(it.route), {"payload": {"transform": transform}})
        assert edited.json["version"] == version
    await it.record(*(it.row("retrying", number=number, route_version=number) for number in (1, 2, 3, 4, 5)))

    attempts = (await shown(app, it.id))["attempts"]

    assert [attempt["request"] is not None for attempt in attempts] == [False, True, False, True, True]


async def test_requests_are_built_without_reading_all_of_a_routes_history(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A route may be disabled and enabled for ever: folding 50,000 events kept the event loop busy for four seconds."""
    it = await recorded(app)
    for name in ("second", "third", "fourth"):
        await app.ask("PATCH", path(it.route), {"name": name})
    await it.record(*(it.row("retrying", number=number, route_version=number) for number in (1, 3)))
    folded: list[int] = []

    def following(route: Route | None, event: RouteEvent) -> Route:
        folded.append(event.version)
        return route_state.following(route, event)

    module = import_module("daemon.deliveries.sent_requests")
    monkeypatch.setattr(module, "route_state", SimpleNamespace(following=following))

    attempts = (await shown(app, it.id))["attempts"]

    assert [attempt["request"] is not None for attempt in attempts] == [True, True]
    assert folded == []


async def test_a_request_of_a_version_that_was_not_applied_here_yet_is_built_from_the_log(app: App) -> None:
    """Another process sent it, and this one is a moment behind."""
    it = await recorded(app, payload={"transform": "id"})
    services = app.client.app[SERVICES]
    behind = RouteIndex()
    async for event in route_log.read(app.database):
        route_state.apply(behind, event)
    await app.ask("PATCH", path(it.route), {"name": "second"})
    await app.ask("PATCH", path(it.route), {"payload": {"transform": "type"}})
    await it.record(*(it.row("retrying", number=number, route_version=number) for number in (1, 2, 3)))
    services.index.replace(behind)

    attempts = (await shown(app, it.id))["attempts"]

    assert [attempt["request"]["body"] for attempt in attempts] == ['"e1"', '"e1"', '"order.create"']


async def test_of_what_is_no_longer_kept_the_attempts_remain(app: App) -> None:
    it = await recorded(app)
    await it.record(it.row("delivered"))
    await it.forget_event()

    for query in ("", "?event=e1"):
        found = await shown(app, it.id + query)
        assert (found["status"], found["detail"], found["event"]["id"]) == ("delivered", None, "e1")
        assert found["attempts"][0]["request"] is None
    assert (await app.ask("GET", f"{LISTS}/{it.id}?event=e2")).status == 404


async def test_whatever_is_in_a_list_is_found_by_its_id(empty_url: str) -> None:
    """Attempted or not, parked, in a range, above the checkpoint, suppressed or unread; with and without its event's id."""
    async with delivery_log(empty_url) as log:
        log.app.client.app[ALLOWED]._allowances = {RateLimit.SEARCH: Allowance(burst=1000, per_second=1)}
        for expected in log.expected():
            which = delivery_id(expected.route_id, expected.event_id, expected.event_time)
            for query in ("", f"?event={expected.event_id}"):
                found = await shown(log.app, which + query)
                assert (
                    found["event"]["id"],
                    found["route"]["id"],
                    found["status"],
                    len(found["attempts"]),
                ) == expected_fields(expected)


async def test_an_unread_event_has_deliveries_already(app: App) -> None:
    route = await app.route()
    await app.ask("POST", "/v1/events", {"tenant": TENANT, "type": "order.create", "id": "e1", "data": {}})

    found = await shown(app, delivery_id(UUID(route["id"]), "e1", datetime.now(UTC)))

    assert (found["status"], found["attempts"]) == ("pending", [])


async def test_foreign_and_unknown_deliveries_are_404(app: App) -> None:
    it = await recorded(app, event_types=["order.create"])
    await it.record(it.row("delivered"))
    other = await app.route("other")
    await app.ask("POST", "/v1/events", {"tenant": "other", "type": "order.create", "id": "e2", "data": {}})
    off = await app.route()
    await app.ask("POST", path(off, "/disable"))
    await app.ask("POST", "/v1/events", {"tenant": TENANT, "type": "order.pay", "id": "e3", "data": {}})
    await ticks.make(app.database)

    async def get(which: str) -> Answer:
        return await app.ask("GET", f"{LISTS}/{which}")

    foreign = delivery_id(UUID(other["id"]), "e2", datetime.now(UTC))
    not_due = delivery_id(UUID(off["id"]), "e3", datetime.now(UTC))
    answers = [
        await get(foreign),
        await get(f"{foreign}?event=e2"),
        await get(str(uuid4())),
        await get(not_due),
        await get(f"{not_due}?event=e3"),
        await get(f"{it.id}?event=e3"),
        await get(f"{it.id}?event=%00"),
        await get("x"),
        await get("{" + it.id + "}"),
        await get("%00"),
        await app.ask("GET", f"/v1/tenants/other/deliveries/{it.id}"),
    ]

    assert [answer.status for answer in answers] == [404] * len(answers)
    assert (await get(it.id.upper())).status == 200


async def test_a_search_that_takes_too_long_says_what_to_do(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("daemon.deliveries.detail"), "SEARCH_SECONDS", -1.0)
    async with delivery_log(empty_url) as log:
        answer = await log.app.ask("GET", f"{LISTS}/{uuid4()}")

    assert (answer.status, list(answer.errors)) == (422, ["event"])


async def test_ids_can_be_guessed_only_so_often(app: App) -> None:
    it = await recorded(app)
    await it.record(it.row("delivered"))
    app.client.app[ALLOWED]._allowances = {RateLimit.SEARCH: Allowance(burst=2, per_second=0.01)}

    answers = [await app.ask("GET", f"{LISTS}/{uuid4()}") for _ in range(3)]

    assert [answer.status for answer in answers] == [404, 404, 429]
    assert 0 < int(answers[2].headers["Retry-After"]) <= 100
    assert (await app.ask("GET", f"{LISTS}/{it.id}")).status == 200
    assert (await app.ask("GET", f"{LISTS}/{uuid4()}?event=e1")).status == 404


async def test_an_event_from_before_its_route_has_no_delivery_though_its_id_was_used_again(app: App) -> None:
    it = await recorded(app)
    await age_events(app, datetime.now(UTC) - timedelta(days=2))
    long_ago = (datetime.now(UTC) - timedelta(days=5)).isoformat()
    again = {"tenant": TENANT, "type": "order.create", "id": "e1", "data": {}, "occurred_at": long_ago}
    assert (await app.ask("POST", "/v1/events", again)).json["accepted"] == 1
    await ticks.make(app.database)

    assert (await app.ask("GET", f"{LISTS}/{it.id}?event=e1")).status == 404


async def test_an_id_that_was_used_on_two_days_has_two_deliveries(empty_url: str) -> None:
    before = datetime.now(UTC) - timedelta(days=2)
    async with opened(empty_url) as app:
        it = await recorded(app)
        key = delivery_key(delivery_id(UUID(it.route["id"]), "e1", before))
        await it.record(it.row("failed", status_code=500, error="http_500", event_time=before, delivery_key=key))
        await age_events(app, before)
        await age_routes(app, timedelta(days=3))
    async with opened(empty_url) as app:
        await app.ask("POST", "/v1/events", {"tenant": TENANT, "type": "order.create", "id": "e1", "data": {}})
        await ticks.make(app.database)

        old, new = (delivery_id(UUID(it.route["id"]), "e1", at) for at in (before, datetime.now(UTC)))
        listed = (await app.ask("GET", f"{LISTS}?event=e1")).json["items"]

        assert [(item["id"], item["status"]) for item in listed] == [(new, "pending"), (old, "failed")]
        for which, status in ((new, "pending"), (old, "failed")):
            for query in ("", "?event=e1"):
                assert (await shown(app, f"{which}{query}"))["status"] == status
