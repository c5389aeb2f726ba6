"""The listeners under test.

Most tests share one database, which is emptied before each test: a clone for each test would take most of the time. A
test that changes the schema or breaks the connection opens a `app` on a `database_url` of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from tests.support.postgres.databases import FEW_DAYS_AHEAD, of_database, temporary_database
from tests.support.web.application import KEPT_POOLS, App, app, pools_of

HERE = Path(__file__).parent

# Limits on the time in which a page or a delivery is looked for. On a slow machine they would end a page early: a test
# of what is found must not depend on the machine. Tests of the limits set them themselves.
_UNHURRIED = (
    ("daemon.deliveries.listing", "PAGE_SECONDS"),
    ("daemon.web.service.events.event_pages", "PAGE_SECONDS"),
    ("daemon.deliveries.scanning.undecided", "_DECIDING_SECONDS"),
    ("daemon.deliveries.detail", "SEARCH_SECONDS"),
)

# Triggers forbid deleting from both logs. A superuser with the replication role `replica` may.
_EMPTY = """
SET session_replication_role = replica;
DELETE FROM hookledger.domain_event;
DELETE FROM hookledger.domain_event_midnight;
DELETE FROM hookledger.meta WHERE key IN ('events_kept_from', 'attempts_kept_from');
DELETE FROM hookledger.route_event;
DELETE FROM hookledger.route_event_signature;
DELETE FROM hookledger.seal;
DELETE FROM hookledger.route_key;
DELETE FROM hookledger.route_headers;
DELETE FROM hookledger.tick;
DELETE FROM hookledger.attempt;
DELETE FROM hookledger.retry;
DELETE FROM hookledger.parked;
DELETE FROM hookledger.parked_range;
UPDATE hookledger.checkpoint SET tick = 0 WHERE tick > 0;
UPDATE hookledger.lease SET owner = NULL, expires_at = '-infinity' WHERE owner IS NOT NULL;
DELETE FROM hookledger.api_token;
DELETE FROM hookledger.login_link;
DELETE FROM hookledger.session;
DELETE FROM hookledger.event_type;
DELETE FROM hookledger.event_type_seen;
DELETE FROM hookledger.resend;
DELETE FROM hookledger.replay_part;
DELETE FROM hookledger.replay;
DELETE FROM hookledger.source_partition;
DELETE FROM hookledger.source_refusal;
DELETE FROM hookledger.source_member;
DELETE FROM hookledger.route_metric;
DELETE FROM hookledger.route_tally;
DELETE FROM hookledger.route_failing;
DELETE FROM hookledger.route_recent;
DELETE FROM hookledger.route_health;
DELETE FROM hookledger.lost_log;
DELETE FROM hookledger.audit_job;
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of the folder share the event loop of the pools."""
    for item in items:
        if item.path.is_relative_to(HERE) and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in _UNHURRIED:
        monkeypatch.setattr(import_module(module), name, 60.0)


@pytest.fixture
def days_ahead() -> int:
    """No pipeline makes the partitions of more days."""
    return FEW_DAYS_AHEAD


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_database_url(
    postgres_url: str, administrator: asyncpg.Connection, small_template_database: str
) -> AsyncIterator[str]:
    async with temporary_database(administrator, "web", template=small_template_database) as name:
        yield of_database(postgres_url, name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def emptying(shared_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """One connection for all tests: a new one would learn of all tables anew, which takes longer than to empty them."""
    connection = await asyncpg.connect(shared_database_url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kept_pools(shared_database_url: str) -> AsyncIterator[None]:
    """The connections that the applications on the shared database use one after the other."""
    pools = KEPT_POOLS[shared_database_url] = pools_of(shared_database_url)
    yield
    del KEPT_POOLS[shared_database_url]
    await pools.close()


@pytest_asyncio.fixture(loop_scope="session")
async def empty_url(shared_database_url: str, emptying: asyncpg.Connection, kept_pools: None) -> str:
    """The shared database, emptied."""
    await emptying.execute(_EMPTY)
    return shared_database_url


@pytest_asyncio.fixture(name="app", loop_scope="session")
async def _app(empty_url: str) -> AsyncIterator[App]:
    """The application on loopback, without an admin token."""
    async with app(empty_url) as opened:
        yield opened
