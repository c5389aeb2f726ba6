"""A stage that waits for PostgreSQL says so, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from daemon.pipeline import supervisor
from daemon.pipeline.loops import Outages, Patience
from eventstore.postgres.errors import StoreUnavailable
from tests.support.pipeline.process import pipeline_process
from tests.support.receivers.receiver import receiver
from tests.support.until import until


async def test_it_says_once_that_it_waits_however_many_ask_and_once_that_it_goes_on() -> None:
    patience, asked, is_away = Patience("recorder", pause_seconds=0.001), 0, True

    async def ask() -> str:
        nonlocal asked
        asked += 1
        if is_away:
            raise StoreUnavailable("another transaction holds a lock")
        return "written"

    with capture_logs() as lines:
        waiting = [asyncio.ensure_future(patience.until_answered(ask)) for _ in range(3)]
        await until(lambda: asked > 9)
        assert [line["event"] for line in lines] == ["database.unavailable"]
        is_away = False
        assert await asyncio.gather(*waiting) == ["written"] * 3
        assert await patience.until_answered(ask) == "written"
    said = [(line["event"], line["loop"], line.get("cause")) for line in lines]
    assert said == [
        ("database.unavailable", "recorder", "another transaction holds a lock"),
        ("database.recovered", "recorder", None),
    ]


async def test_any_other_failure_is_raised() -> None:
    async def ask() -> None:
        raise LookupError("gone")

    (found,) = await asyncio.gather(Patience("recorder", pause_seconds=0).until_answered(ask), return_exceptions=True)
    assert isinstance(found, LookupError)


def test_a_stage_waits_from_its_first_failure_to_its_next_answer() -> None:
    outages = Outages()
    outages.failed("ticker", "no connection")
    outages.failed("gauges", "no connection")
    outages.failed("ticker", "permission denied")
    assert outages.longer_than(5, ["ticker"]) == []
    assert outages.longer_than(0, ["ticker", "recorder"]) == [
        "stage ticker has had no answer from the database for 0 s: permission denied"
    ]
    (other,) = outages.longer_than(0, ["ticker", "recorder"], others=True)
    assert other.startswith("stage gauges has had no answer")
    assert outages.longer_than(5, ["ticker"], others=True) == []
    outages.answered("ticker")
    assert outages.longer_than(0, ["ticker", "recorder"]) == []


@pytest_asyncio.fixture
async def administrator_here(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    ("right", "stage"),
    [
        ("EXECUTE ON FUNCTION hookledger.poll", "ticker"),
        ("INSERT ON TABLE hookledger.attempt", "recorder"),
    ],
)
async def test_a_stage_that_lost_a_right_is_named_until_it_has_it_again(
    database_url: str,
    administrator_here: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    right: str,
    stage: str,
) -> None:
    """PostgreSQL answers and refuses, so nothing is sent, and all that is asked otherwise does well."""
    monkeypatch.setattr(supervisor, "OUTAGE_SECONDS", 0.3)
    role = await administrator_here.fetchval("SELECT 'daemon_of_' || current_database()")
    await administrator_here.execute(f"""
        CREATE ROLE "{role}" LOGIN;
        GRANT ALL ON SCHEMA hookledger TO "{role}";
        GRANT ALL ON ALL TABLES IN SCHEMA hookledger TO "{role}";
        GRANT ALL ON ALL SEQUENCES IN SCHEMA hookledger TO "{role}";
        GRANT ALL ON ALL FUNCTIONS IN SCHEMA hookledger TO "{role}";
    """)
    try:
        as_role = database_url.replace("//postgres", f"//{role}", 1)
        async with receiver() as there, pipeline_process(as_role) as it:
            await it.route(there.url)
            await it.publish()
            await it.until_accounted()
            assert it.pipeline.stage_faults == []
            await administrator_here.execute(f'REVOKE {right} FROM "{role}"')
            await it.publish()
            await until(lambda: any(f"stage {stage} has had no answer" in each for each in it.pipeline.stage_faults))
            assert all("permission denied for " in each for each in it.pipeline.stage_faults)
            await administrator_here.execute(f'GRANT {right} TO "{role}"')
            await until(lambda: it.pipeline.stage_faults == [])
    finally:
        await administrator_here.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')
