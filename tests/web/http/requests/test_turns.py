"""One tenant's long bodies keep nobody else waiting: they are worked at in turn, and for half of the time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import orjson
import pytest

from daemon.web.forms.request_forms import MAX_VALUES
from daemon.web.http.problems import Problem
from daemon.web.http.requests import turns
from daemon.web.http.requests.turns import Turns
from tests.support.web.application import App, app
from tests.support.web.tokens import bearer, token

ADMIN = "correct horse battery staple, and more"
ROUTE: dict[str, Any] = {"name": "Orders", "target_url": "https://example.com/", "event_types": ["*"]}
EVENT: dict[str, Any] = {"type": "order.create", "data": {}}


def worked(seconds: float) -> None:
    """Computes for so long."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


async def test_a_body_waits_for_the_one_before_it_and_for_as_long_again() -> None:
    line, at = Turns(), list[float]()
    clock = asyncio.get_running_loop().time

    async def work(tenant: str) -> None:
        await line.turn(tenant, 100_000)
        at.append(clock())
        worked(0.05)

    await asyncio.gather(work("a"), work("a"), work("a"))
    assert all(later - earlier >= 0.1 for earlier, later in pairwise(at))


async def test_other_tenants_do_not_wait() -> None:
    line, done = Turns(), list[str]()

    async def work(tenant: str) -> None:
        await line.turn(tenant, 100_000)
        worked(0.02)
        done.append(tenant)

    await asyncio.gather(*(work("a") for _ in range(5)), work("b"))
    assert done == ["a", "b", "a", "a", "a", "a"]


async def test_who_waits_too_long_is_told_to_send_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 0.05)
    line = Turns()
    await line.turn("a", 1)
    worked(0.2)
    with pytest.raises(Problem, match="too much of this tenant") as refused:
        await line.turn("a", 1)
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "2"})
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 30.0)
    await line.turn("a", 1)


async def test_what_waits_has_a_limit_but_one_body_waits_whatever_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_WAITING_BYTES", 100)
    line = Turns()
    await line.turn("a", 1000)
    waiting = asyncio.create_task(line.turn("a", 1000))
    await asyncio.sleep(0)
    with pytest.raises(Problem, match="too much of this tenant"):
        await line.turn("a", 1)
    await line.turn("b", 1)
    await waiting
    await line.turn("a", 1)


async def test_work_in_steps_has_the_place_of_its_tenant_until_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PLACE_PATIENCE_SECONDS", 0.05)
    line = Turns()
    async with line.place("a", 1), line.place("b", 1):
        with pytest.raises(Problem, match="too much of this tenant"):
            async with line.place("a", 1):
                pass
    async with line.place("a", 1):
        await line.turn("a", 1)


async def test_who_goes_away_while_waiting_leaves_no_trace() -> None:
    line = Turns()
    await line.turn("a", 1)
    gone = asyncio.create_task(line.turn("a", 1))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    del gone  # its traceback knows the line
    await line.turn("a", 1)
    async with asyncio.timeout(30):
        while line._lines:
            await asyncio.sleep(0.01)


def long_event(number: int, *, fields: int = 14_000) -> dict[str, Any]:
    return {**EVENT, "id": f"evt_{number}", **{f"field_{index}": 1 for index in range(fields)}}


def lines_of(number: int) -> bytes:
    return b"\n".join(orjson.dumps(long_event(number, fields=4_000)) for _ in range(8))


def cloud_events(number: int) -> list[dict[str, Any]]:
    event = {"specversion": "1.0", "id": str(number), "source": "/", "type": "!"}
    return [event | {f"a{index}": "x" * 20 for index in range(1_000)} for _ in range(8)]


HOSTILE: dict[str, tuple[str, str, Any, str]] = {
    "short commands": (
        "tenant:mallory",
        "/v1/tenants/mallory/routes",
        lambda _: ROUTE | {"event_types": [1] * 2_500},
        "application/json",
    ),
    "events": ("producer:mallory", "/v1/events", long_event, "application/json"),
    "lines": ("producer:mallory", "/v1/events", lines_of, "application/x-ndjson"),
    "cloud events": ("producer:mallory", "/v1/events", cloud_events, "application/cloudevents-batch+json"),
    "previews": (
        "tenant:mallory",
        "/v1/tenants/mallory/preview",
        lambda number: {"route": ROUTE, "event": long_event(number)},
        "application/json",
    ),
    "forms": (
        "tenant:mallory",
        "/t/mallory/webhooks/new",
        lambda _: b"&".join(b"event_types=order.x%d" % index for index in range(4_900)),
        "application/x-www-form-urlencoded",
    ),
}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose bodies were worked at in turn from now on."""
    tenants, turn, place = list[str](), Turns.turn, Turns.place

    async def noted_turn(self: Turns, tenant: str, size_bytes: int, *, later_seconds: float = 0.0) -> None:
        tenants.append(tenant)
        await turn(self, tenant, size_bytes, later_seconds=later_seconds)

    @asynccontextmanager
    async def noted_place(self: Turns, tenant: str, size_bytes: int) -> AsyncIterator[None]:
        tenants.append(tenant)
        async with place(self, tenant, size_bytes):
            yield

    monkeypatch.setattr(Turns, "turn", noted_turn)
    monkeypatch.setattr(Turns, "place", noted_place)
    return tenants


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_long_body_of_a_tenant_is_worked_at_in_its_turn_and_one_of_the_operator_at_once(
    empty_url: str, kind: str, taken: list[str]
) -> None:
    scope, path, body, content_type = HOSTILE[kind]
    made = [body(number) for number in range(3)]
    bodies = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in made]
    assert all((len(each) > 64_000) == (kind != "short commands") for each in bodies)
    async with app(empty_url, server__admin_token=ADMIN) as served:

        async def send(bearing: str, each: bytes) -> int:
            headers = bearer(bearing) | {"Content-Type": content_type}
            async with served.client.post(path, data=each, headers=headers) as answer:
                return answer.status

        secret = await token(served.database, scope)
        statuses = set(await asyncio.gather(*(send(secret, each) for each in bodies)))
        assert statuses <= {202, 422, 429}
        assert set(taken) == {"mallory"}
        assert len(taken) >= len(bodies)
        taken.clear()
        await send(ADMIN, bodies[0])
        assert taken == []


@pytest.mark.parametrize(
    "more",
    [
        {"event_types": [1] * 60_000},
        {"headers": {str(number): "***" for number in range(12_000)}},
        {f"field_{number}": 1 for number in range(12_000)},
    ],
)
async def test_a_form_of_so_many_values_is_refused_before_they_are_looked_at(app: App, more: dict[str, Any]) -> None:
    answer = await app.ask("POST", "/v1/tenants/acme/routes", {**ROUTE, **more})
    assert answer.status == 413
    assert answer.json["detail"] == f"the body has more than {MAX_VALUES} values; nothing was done"


async def test_the_largest_form_that_may_be_right_is_read(app: App) -> None:
    fields = [f"field_{number}" for number in range(999)]
    more = {
        "event_types": [f"order.type_{number}" for number in range(200)],
        "headers": {f"X-{number}": ",".join("a" * 100) for number in range(20)},
        "payload": {"snapshot": {"order": fields}},
    }
    assert (await app.ask("POST", "/v1/tenants/acme/routes", {**ROUTE, **more})).status == 201
