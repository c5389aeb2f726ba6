"""Routes with nothing but failures for too long are disabled by the system."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.route import Route
from daemon.pipeline.held_shards import HeldShards, Takeover
from daemon.pipeline.tunables import Tunables
from daemon.pipeline.upkeep.auto_disable import AutoDisable, RouteDisabler
from eventstore.domain_events.events import shard_of
from eventstore.postgres import schema
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import receiver, status
from tests.support.rows.outcomes import note

QUICK = RetryPolicy(first=timedelta(seconds=0.1), cap=timedelta(seconds=0.1), attempts=1000)
SECONDS = 30.0
IS_DISABLED = "SELECT count(*) = 1 FROM hookledger.route_event WHERE type = 'disabled' AND route_id = $1"
FIVE_DAYS = timedelta(days=5)


async def disabling(it: PipelineProcess, route: Route) -> list[dict[str, Any]]:
    return await it.rows(
        "SELECT actor, origin, reason, effective_at FROM hookledger.route_event WHERE type = 'disabled' AND route_id = $1",
        route.id,
    )


@pytest.fixture
def days_ahead() -> int:
    """Outcomes of days to come have their partitions."""
    return schema.PARTITION_DAYS_AHEAD


OFTEN = Tunables(auto_disable_least_seconds=0.05, auto_disable_most_seconds=0.05)


async def test_a_route_that_only_fails_is_disabled_and_its_history_says_since_when(database_url: str) -> None:
    after = timedelta(seconds=1)
    async with (
        receiver() as there,
        pipeline_process(database_url, retry=QUICK, auto_disable_after=after, tunables=OFTEN) as it,
    ):
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
class RecordedOutcome:
    """An outcome, `hours` after the last change of its route."""

    hours: float
    outcome: str
    error: str | None = None
    is_test: bool = False


async def record(it: PipelineProcess, route: Route, *said: RecordedOutcome) -> None:
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


def current(it: PipelineProcess, route: Route) -> Route:
    timeline = it.projection.index.timeline(route.id)
    assert timeline is not None
    return timeline.current


async def gets_disabled(it: PipelineProcess, route: Route, *, shards: Collection[int] = range(16)) -> bool:
    """Runs the check once. True if it disabled the route."""
    index = it.projection.index
    before = await disabling(it, route)
    held = HeldShards()
    epochs = dict.fromkeys(shards, 1)
    held.take(epochs, valid_until=math.inf)
    held.hold(Takeover(checkpoints=dict.fromkeys(shards, 0)), epochs)
    auto_disable = AutoDisable(
        it.database, index, RouteDisabler(index, it.commands), after=FIVE_DAYS, shards=held, tunables=OFTEN
    )
    await auto_disable.run_once()
    return await disabling(it, route) != before


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param([], False, id="a route without traffic"),
        pytest.param([RecordedOutcome(0, "retrying"), RecordedOutcome(120, "retrying")], True, id="failing retries of one delivery"),
        pytest.param([RecordedOutcome(0, "failed"), RecordedOutcome(120, "failed")], True, id="deliveries that failed"),
        pytest.param([RecordedOutcome(0, "retrying"), RecordedOutcome(119, "failed")], False, id="an hour too early"),
        pytest.param([RecordedOutcome(9, "failed")], False, id="a failure, then no traffic"),
        pytest.param([RecordedOutcome(0, "retrying"), RecordedOutcome(130, "suppressed"), RecordedOutcome(131, "expired")], False, id="ends without a request"),
        pytest.param([RecordedOutcome(0, "delivered"), RecordedOutcome(1, "retrying"), RecordedOutcome(120, "retrying")], False, id="a success before"),
        pytest.param([RecordedOutcome(0, "delivered"), RecordedOutcome(1, "retrying"), RecordedOutcome(121, "retrying")], True, id="long after a success"),
        pytest.param([RecordedOutcome(0, "retrying"), RecordedOutcome(60, "delivered"), RecordedOutcome(121, "retrying")], False, id="a success between"),
        pytest.param([RecordedOutcome(0, "retrying"), RecordedOutcome(121, "retrying"), RecordedOutcome(122, "delivered")], False, id="a success at last"),
        pytest.param([RecordedOutcome(0, "retrying"), RecordedOutcome(60, "delivered", is_test=True), RecordedOutcome(121, "failed")], True, id="a test is no success"),
        pytest.param([RecordedOutcome(0, "failed", is_test=True), RecordedOutcome(121, "failed", is_test=True)], False, id="a test is no failure"),
        pytest.param([RecordedOutcome(0, "retrying", "proxy_error"), RecordedOutcome(121, "retrying", "proxy_error")], False, id="the operator's proxy"),
        pytest.param([RecordedOutcome(0, "failed", "render_error"), RecordedOutcome(1, "failed", "timeout"), RecordedOutcome(120, "failed", "timeout")], False, id="not all were the receiver's"),
        pytest.param([RecordedOutcome(0, "failed", "timeout"), RecordedOutcome(1, "failed", "render_error"), RecordedOutcome(120, "failed", "timeout")], True, id="those between do not matter"),
    ],
)  # fmt: skip
async def test_it_takes_five_days_of_nothing_but_failures(
    database_url: str, said: list[RecordedOutcome], expected: bool
) -> None:
    async with pipeline_process(database_url, run=False, tunables=OFTEN) as it:
        route = await it.route("https://shop.example/")
        await record(it, route, *said)
        assert await gets_disabled(it, route) is expected


async def test_another_process_goes_on_where_the_one_before_ended(database_url: str) -> None:
    async with pipeline_process(database_url, run=False, tunables=OFTEN) as it:
        route = await it.route("https://shop.example/")
        await record(it, route, RecordedOutcome(0, "failed"))
        assert not await gets_disabled(it, route)
    async with pipeline_process(database_url, run=False, tunables=OFTEN) as it:
        await record(it, route, RecordedOutcome(120, "failed"))
        assert await gets_disabled(it, route)
        (row,) = await disabling(it, route)
        assert row["reason"].endswith(": 2 requests in a row")


async def test_an_edit_is_a_new_chance(database_url: str) -> None:
    async with pipeline_process(database_url, run=False, tunables=OFTEN) as it:
        route = await it.route("https://shop.example/")
        await record(it, route, RecordedOutcome(0, "failed"))
        await it.edit(route, target_url="https://shop.example/new")
        edited = current(it, route)
        await record(it, edited, RecordedOutcome(1, "failed"), RecordedOutcome(120, "failed"))
        assert not await gets_disabled(it, route)
        await record(it, edited, RecordedOutcome(121, "failed"))
        assert await gets_disabled(it, route)


async def test_enabling_is_a_new_chance(database_url: str) -> None:
    async with pipeline_process(database_url, run=False, tunables=OFTEN) as it:
        route = await it.route("https://shop.example/")
        await record(it, route, RecordedOutcome(0, "failed"))
        await it.disable(route)
        await record(it, route, RecordedOutcome(130, "failed"))
        assert not await gets_disabled(it, route)
        await it.enable(route)
        enabled = current(it, route)
        assert not await gets_disabled(it, route)
        await record(it, enabled, RecordedOutcome(140, "failed"))
        assert not await gets_disabled(it, route)


@pytest.mark.parametrize(
    ("changes", "disables"),
    [({"target_url": "https://shop.example/new"}, False), ({"name": "Orders"}, True)],
    ids=["another target", "another name"],
)
async def test_an_answer_of_410_is_about_the_target_that_the_log_says(
    database_url: str, changes: dict[str, str], *, disables: bool
) -> None:
    async with pipeline_process(database_url, run=False) as one, pipeline_process(database_url, run=False) as other:
        route = await one.route("https://shop.example/")
        await other.projection.catch_up()
        await one.edit(route, **changes)  # the other process has not heard of it yet
        disabler = RouteDisabler(other.projection.index, other.commands)
        disabler.gone(route)
        await disabler.run_once()
        assert len(await disabling(one, route)) == disables


async def test_the_owner_of_its_shard_disables_it_and_nobody_else(database_url: str) -> None:
    async with pipeline_process(database_url, run=False, tunables=OFTEN) as it:
        route = await it.route("https://shop.example/")
        await record(it, route, RecordedOutcome(0, "failed"), RecordedOutcome(120, "failed"))
        own = shard_of(route.tenant)
        assert not await gets_disabled(it, route, shards=[shard for shard in range(16) if shard != own])
        assert await gets_disabled(it, route, shards=[own])
