"""Routes of which nothing but failures came back for too long are disabled, in the system's name."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.route import Route
from daemon.pipeline.upkeep import auto_disable
from daemon.pipeline.upkeep.auto_disable import AutoDisable, RouteDisabler
from eventstore.domain_events.events import shard_of
from tests.support.house import House, house
from tests.support.outcomes import note
from tests.support.receiver import receiver, status

QUICK = RetryPolicy(first=timedelta(seconds=0.1), cap=timedelta(seconds=0.1), attempts=1000)
SECONDS = 30.0
IS_DISABLED = "SELECT count(*) = 1 FROM hookledger.route_event WHERE type = 'disabled' AND route_id = $1"
FIVE_DAYS = timedelta(days=5)


async def disabling(it: House, route: Route) -> list[dict[str, Any]]:
    return await it.rows(
        "SELECT actor, origin, reason, effective_at FROM hookledger.route_event WHERE type = 'disabled' AND route_id = $1",
        route.id,
    )


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_disable, "LOOK_LEAST_SECONDS", 0.05)
    monkeypatch.setattr(auto_disable, "LOOK_MOST_SECONDS", 0.05)


async def test_a_route_that_only_fails_is_disabled_and_its_history_says_since_when(database_url: str) -> None:
    after = timedelta(seconds=1)
    async with receiver() as there, house(database_url, retry=QUICK, auto_disable_after=after) as it:
        there.answer["/failing"] = status(500)
        route = await it.route(f"{there.url}/failing")
        fine = await it.route(f"{there.url}/fine")
        await it.publish()
        await it.until_row(IS_DISABLED, route.id, seconds=SECONDS)
        (row,) = await disabling(it, route)
        assert (row["actor"], row["origin"]) == ("system", "delivery")
        said = re.fullmatch(r"nothing but failures since (.{19}) UTC: (\d+) requests in a row", row["reason"])
        assert said, row["reason"]
        (log,) = await it.rows(
            "SELECT count(*) AS count, min(at) AS first, max(at) AS last FROM hookledger.attempt WHERE route_id = $1 AND at < $2",
            route.id,
            row["effective_at"],
        )
        assert said[1] == f"{log['first']:%Y-%m-%d %H:%M:%S}"
        assert 2 <= int(said[2]) <= log["count"]
        assert log["last"] - log["first"] >= after
        await it.until_row("SELECT count(*) = 0 FROM hookledger.retry", seconds=SECONDS)
        assert await disabling(it, fine) == []


@dataclass(frozen=True)
class Said:
    """An outcome, so many hours after the last change of its route."""

    hours: float
    outcome: str
    error: str | None = None
    is_test: bool = False


async def noted(it: House, route: Route, *said: Said) -> None:
    for each in said:
        async with it.database.connection() as connection:
            await note(
                connection,
                each.outcome,
                route_id=route.id,
                at=route.updated_at + timedelta(hours=each.hours),
                error=each.error,
                is_test=each.is_test,
            )


def current(it: House, route: Route) -> Route:
    timeline = it.projection.index.timeline(route.id)
    assert timeline is not None
    return timeline.current


async def is_given_up(it: House, route: Route, *, shards: Collection[int] = range(16)) -> bool:
    """Looks once; true if that disabled the route."""
    index = it.projection.index
    before = await disabling(it, route)
    patience = AutoDisable(
        it.database, index, RouteDisabler(index, it.commands), after=FIVE_DAYS, shards=lambda: shards
    )
    await patience.run_once()
    return await disabling(it, route) != before


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param([], False, id="a route without traffic"),
        pytest.param([Said(0, "retrying"), Said(120, "retrying")], True, id="failing retries of one delivery"),
        pytest.param([Said(0, "failed"), Said(120, "failed")], True, id="deliveries that failed"),
        pytest.param([Said(0, "retrying"), Said(119, "failed")], False, id="an hour too early"),
        pytest.param([Said(9, "failed")], False, id="a failure, then no traffic"),
        pytest.param([Said(0, "retrying"), Said(130, "suppressed"), Said(131, "expired")], False, id="ends without a request"),
        pytest.param([Said(0, "delivered"), Said(1, "retrying"), Said(120, "retrying")], False, id="a success before"),
        pytest.param([Said(0, "delivered"), Said(1, "retrying"), Said(121, "retrying")], True, id="long after a success"),
        pytest.param([Said(0, "retrying"), Said(60, "delivered"), Said(121, "retrying")], False, id="a success between"),
        pytest.param([Said(0, "retrying"), Said(121, "retrying"), Said(122, "delivered")], False, id="a success at last"),
        pytest.param([Said(0, "retrying"), Said(60, "delivered", is_test=True), Said(121, "failed")], True, id="a test is no success"),
        pytest.param([Said(0, "failed", is_test=True), Said(121, "failed", is_test=True)], False, id="a test is no failure"),
        pytest.param([Said(0, "retrying", "proxy_error"), Said(121, "retrying", "proxy_error")], False, id="the operator's proxy"),
        pytest.param([Said(0, "failed", "render_error"), Said(1, "failed", "timeout"), Said(120, "failed", "timeout")], False, id="not all were the receiver's"),
        pytest.param([Said(0, "failed", "timeout"), Said(1, "failed", "render_error"), Said(120, "failed", "timeout")], True, id="those between do not matter"),
    ],
)  # fmt: skip
async def test_it_takes_five_days_of_nothing_but_failures(database_url: str, said: list[Said], expected: bool) -> None:
    async with house(database_url, run=False) as it:
        route = await it.route("https://shop.example/")
        await noted(it, route, *said)
        assert await is_given_up(it, route) is expected


async def test_another_process_goes_on_where_the_one_before_ended(database_url: str) -> None:
    async with house(database_url, run=False) as it:
        route = await it.route("https://shop.example/")
        await noted(it, route, Said(0, "failed"))
        assert not await is_given_up(it, route)
    async with house(database_url, run=False) as it:
        await noted(it, route, Said(120, "failed"))
        assert await is_given_up(it, route)
        (row,) = await disabling(it, route)
        assert row["reason"].endswith(": 2 requests in a row")


async def test_an_edit_is_a_new_chance(database_url: str) -> None:
    async with house(database_url, run=False) as it:
        route = await it.route("https://shop.example/")
        await noted(it, route, Said(0, "failed"))
        await it.edit(route, target_url="https://shop.example/new")
        edited = current(it, route)
        await noted(it, edited, Said(1, "failed"), Said(120, "failed"))
        assert not await is_given_up(it, route)
        await noted(it, edited, Said(121, "failed"))
        assert await is_given_up(it, route)


async def test_enabling_is_a_new_chance(database_url: str) -> None:
    async with house(database_url, run=False) as it:
        route = await it.route("https://shop.example/")
        await noted(it, route, Said(0, "failed"))
        await it.disable(route)
        await noted(it, route, Said(130, "failed"))
        assert not await is_given_up(it, route)
        await it.enable(route)
        enabled = current(it, route)
        assert not await is_given_up(it, route)
        await noted(it, enabled, Said(140, "failed"))
        assert not await is_given_up(it, route)


async def test_the_owner_of_its_shard_disables_it_and_nobody_else(database_url: str) -> None:
    async with house(database_url, run=False) as it:
        route = await it.route("https://shop.example/")
        await noted(it, route, Said(0, "failed"), Said(120, "failed"))
        own = shard_of(route.tenant)
        assert not await is_given_up(it, route, shards=[shard for shard in range(16) if shard != own])
        assert await is_given_up(it, route, shards=[own])
