"""GET …/routes/{id}/metrics: the results of a route's deliveries in 30 days."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from eventstore.leases import lease
from eventstore.progress import recording
from eventstore.progress.recording import Flush
from eventstore.queries.metrics import tally
from tests.support.rows.credentials import LOG_MACS
from tests.support.rows.outcomes import note
from tests.support.values.builders import parked, retry
from tests.support.web.application import App, app, path

COUNTS = ("successful", "failed", "successful_retries", "suppressed", "expired")
NOTHING = dict.fromkeys(COUNTS, 0)


async def noted(app: App, route: dict[str, Any], *outcomes: str, **more: Any) -> None:
    async with app.database.connection() as connection:
        await note(connection, *outcomes, route_id=UUID(route["id"]), **more)


async def metrics(app: App, route: dict[str, Any], query: str = "") -> dict[str, Any]:
    answer = await app.ask("GET", path(route, f"/metrics{query}"))
    assert answer.status == 200, answer.text
    shown: dict[str, Any] = answer.json
    return shown


def counts(shown: dict[str, Any]) -> dict[str, int]:
    return {name: shown[name] for name in COUNTS}


async def test_a_new_route_has_thirty_days_of_nothing(app: App) -> None:
    before = datetime.now(UTC)
    shown = await metrics(app, await app.route())
    assert counts(shown) == NOTHING
    assert shown["pending_delivery"] == 0
    series = shown["series"]
    assert [counts(period) for period in series] == [NOTHING] * 30
    assert all(one["to"] == two["from"] for one, two in itertools.pairwise(series))
    starts = [datetime.fromisoformat(period["from"]) for period in series]
    assert {two - one for one, two in itertools.pairwise(starts)} == {timedelta(days=1)}
    assert series[0]["from"].endswith("T00:00:00.000000Z")
    assert starts[-1] <= datetime.now(UTC)
    assert datetime.fromisoformat(series[-1]["to"]) > before


async def test_ends_are_counted_and_requests_are_not(app: App) -> None:
    route, other = await app.route(), await app.route()
    await noted(app, route, "delivered", "retrying", "retrying", "failed", "suppressed", "suppressed", "expired")
    await noted(app, route, "delivered", "delivered", number=2)
    await noted(app, route, "delivered", "failed", is_test=True)
    await noted(app, other, "failed")
    expected = {"successful": 3, "failed": 1, "successful_retries": 2, "suppressed": 2, "expired": 1}
    for _ in range(2):
        shown = await metrics(app, route)
        assert counts(shown) == expected
        assert {name: sum(period[name] for period in shown["series"]) for name in COUNTS} == expected
        await tally.add_up(app.database)
    assert counts(await metrics(app, other)) == NOTHING | {"failed": 1}


async def test_what_waits_is_pending_delivery(database_url: str) -> None:
    async with app(database_url) as opened:
        route = await opened.route()
        route_id = UUID(route["id"])
        epochs = await lease.acquire(opened.database, "somebody", [5])
        batch = Flush(
            retries=[retry(shard=5, seq=1, route_id=route_id)],
            parked=[parked(shard=5, seq=seq, route_id=route_id) for seq in (2, 3)],
        )
        assert await recording.flush(opened.database, "somebody", epochs, batch, number=1, macs=LOG_MACS) == {5}
        shown = await metrics(opened, route)
        assert (shown["pending_delivery"], counts(shown)) == (3, NOTHING)


async def test_a_day_and_an_hour_are_those_of_utc(app: App) -> None:
    route = await app.route()
    this_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    for hours_back in (0, 0, 1, 5):
        await noted(app, route, "delivered", at=this_hour - timedelta(hours=hours_back))
    by_hour = (await metrics(app, route, "?interval=hour"))["series"]
    assert len(by_hour) == 7 * 24
    found = {datetime.fromisoformat(it["from"]): it["successful"] for it in by_hour if it["successful"]}
    assert found == {this_hour: 2, this_hour - timedelta(hours=1): 1, this_hour - timedelta(hours=5): 1}
    assert {datetime.fromisoformat(it["to"]) - datetime.fromisoformat(it["from"]) for it in by_hour} == {
        timedelta(hours=1)
    }
    by_day = (await metrics(app, route, "?interval=day"))["series"]
    expected: dict[str, int] = {}
    for hour, count in found.items():
        expected[f"{hour:%Y-%m-%d}"] = expected.get(f"{hour:%Y-%m-%d}", 0) + count
    assert {it["from"][:10]: it["successful"] for it in by_day if it["successful"]} == expected


async def test_the_sum_is_that_of_thirty_days_whatever_the_series_shows(app: App) -> None:
    route = await app.route()
    long_ago = datetime.now(UTC) - timedelta(days=20)
    async with app.database.connection() as connection:
        await connection.execute("SELECT hookledger.ensure_partitions($1, $1)", long_ago.date())
    await noted(app, route, "failed", at=long_ago)
    shown = await metrics(app, route, "?interval=hour")
    assert shown["failed"] == 1
    assert sum(period["failed"] for period in shown["series"]) == 0


@pytest.mark.parametrize("query", ["?interval=week", "?interval=", "?intervall=day", "?interval=DAY"])
async def test_another_interval_is_refused(app: App, query: str) -> None:
    answer = await app.ask("GET", path(await app.route(), f"/metrics{query}"))
    assert answer.status == 422
    assert len(answer.errors) == 1


async def test_foreign_unknown_and_deleted_routes_have_none(app: App) -> None:
    route = await app.route()
    unknown = route | {"id": "11111111-2222-3333-4444-555555555555"}
    deleted = await app.route()
    assert (await app.ask("DELETE", path(deleted))).status == 204
    for named in (route | {"tenant": "globex"}, unknown, route | {"id": "x"}, deleted):
        assert (await app.ask("GET", path(named, "/metrics"))).status == 404


async def test_a_disabled_route_keeps_its_figures(app: App) -> None:
    route = await app.route()
    await noted(app, route, "failed")
    assert (await app.ask("POST", path(route, "/disable"), {})).status == 200
    assert (await metrics(app, route))["failed"] == 1


@pytest.mark.parametrize(
    ("query", "periods", "minutes"), [("1h", 12, 5), ("24h", 24, 60), ("7d", 168, 60), ("30d", 30, 1440)]
)
async def test_a_range_has_requests_answers_and_durations_in_its_periods(
    app: App, query: str, periods: int, minutes: int
) -> None:
    route = await app.route()
    await noted(app, route, "delivered", "retrying", "failed")
    await noted(app, route, "suppressed", number=0)
    for _ in range(2):
        shown = await metrics(app, route, f"?range={query}")
        assert shown["range"] == query
        assert shown["requests"] == {"total": 3, "successful": 1, "failed": 2}
        assert shown["answers"] == {"2xx": 1, "3xx": 0, "4xx": 0, "5xx": 1, "other": 0, "none": 1}
        assert 0 < shown["duration_ms"]["p50"] <= shown["duration_ms"]["p95"] <= 2
        assert counts(shown) == NOTHING | {"successful": 1, "failed": 1, "suppressed": 1}
        series = shown["series"]
        assert len(series) == periods
        length = datetime.fromisoformat(series[0]["to"]) - datetime.fromisoformat(series[0]["from"])
        assert length == timedelta(minutes=minutes)
        assert sum(period["requests"]["failed"] for period in series) == 2
        await tally.add_up(app.database)


async def test_without_requests_there_are_no_durations(app: App) -> None:
    shown = await metrics(app, await app.route(), "?range=1h")
    assert shown["duration_ms"] == {"p50": None, "p95": None}
    assert shown["requests"] == {"total": 0, "successful": 0, "failed": 0}


async def test_a_range_shows_nothing_from_before_it(app: App) -> None:
    route = await app.route()
    now = datetime.now(UTC)
    for hours in (0, 2, 20, 100):
        at = now - timedelta(hours=hours)
        async with app.database.connection() as connection:
            await connection.execute("SELECT hookledger.ensure_partitions($1, $1)", at.date())
        await noted(app, route, "delivered", at=at)
    told = {each: (await metrics(app, route, f"?range={each}"))["successful"] for each in ("1h", "24h", "7d", "30d")}
    assert told == {"1h": 1, "24h": 3, "7d": 4, "30d": 4}


@pytest.mark.parametrize("query", ["?range=2h", "?range=", "?range=1h&interval=day"])
async def test_another_range_or_one_with_an_interval_is_refused(app: App, query: str) -> None:
    answer = await app.ask("GET", path(await app.route(), f"/metrics{query}"))
    assert answer.status == 422
    assert len(answer.errors) == 1
