"""Fixtures of all tests: a PostgreSQL and a migrated database of the test's own; and the `--long` option.

The one thing to know: the server is the embedded one unless HOOKLEDGER_TEST_DATABASE_URL names another server's
administrator, and each test gets a fresh clone of a migrated template, so tests never see each other's rows.
"""

import asyncio
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from eventstore import embedded
from eventstore.postgres import schema
from eventstore.postgres.connect import Database
from tests.support.distribution import ByFile
from tests.support.faults.report import FAULT_REPORT, seed_of
from tests.support.postgres.databases import FEW_DAYS_AHEAD, TodaysTemplate, of_database, temporary_database
from tests.support.postgres.server_processes import fast_directory

TEST_DATABASE_URL = "HOOKLEDGER_TEST_DATABASE_URL"

TESTS = Path(__file__).parent

_SHORT_TEST_SECONDS = 10.0

_LONGEST_FIRST = (
    "browser",
    "kafka",
    "faults",
    "web/openapi/test_schemathesis.py",
    "pipeline",
    "acceptance",
    "postgres",
    "web",
    "unit",
    "support",
    "benchmarks",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests marked long (minutes)")
    parser.addoption("--seed", type=int, help="the seed of random choices in tests/faults; each run prints it")


def pytest_configure(config: pytest.Config) -> None:
    seed_of(config)  # before the run is divided among processes
    # A shell starts what runs in its background with Ctrl-C ignored, and so would be every process of these tests.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Some hundred processes are started: each of them would compile the whole daemon anew.
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the table of tests/faults."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    ended = [report for report in reports if getattr(report, "when", "") == "teardown"]
    lines = [
        line for report in ended for name, lines in report.user_properties if name == FAULT_REPORT for line in lines
    ]
    if lines:
        terminalreporter.section(f"faults, --seed {seed_of(config)}")
        for line in lines:
            terminalreporter.write_line(line)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Starts the longest tests first, so that all processes end at about the same time."""
    rank = {path: _rank(path.relative_to(TESTS).as_posix()) for path in {item.path for item in items}}
    items.sort(key=lambda item: rank[item.path])
    if config.getoption("--long"):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="long: run with --long"))


def _rank(file: str) -> int:
    return next(place for place, beginning in enumerate(_LONGEST_FIRST) if file.startswith(beginning))


def pytest_collection_finish() -> None:
    """Keeps the garbage collector from walking through all modules and tests again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)  # `-p no:xdist` has none
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile:
    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_developer() -> None:
    """A developer's own HOOKLEDGER_* variables must not affect the tests or the processes that they start."""
    for name in [
        name for name in os.environ if name.startswith("HOOKLEDGER_") and not name.startswith("HOOKLEDGER_TEST_")
    ]:
        del os.environ[name]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The administrator's URL of a running server."""
    if url := os.environ.get(TEST_DATABASE_URL):
        yield url
        return
    # Not tmp_path: a second pytest run closes its parents to others, and root's server runs as another user.
    data_dir = Path(tempfile.mkdtemp(prefix="hookledger-test-", dir=fast_directory()))
    server = embedded.start(data_dir)
    try:
        yield server.url
    finally:
        server.stop()
        shutil.rmtree(data_dir)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def administrator(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """One connection that creates and drops the databases of all tests."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def todays_template(postgres_url: str, administrator: asyncpg.Connection) -> AsyncIterator[TodaysTemplate]:
    """A function that returns the name of a migrated database without connections. It has the partitions of the day, so
    after midnight it is another one. Short tests do not begin on one day and end on the next.
    """
    made: dict[tuple[date, int], str] = {}

    async def name_of_today(days_ahead: int) -> str:
        if (left := _seconds_to_midnight()) < _SHORT_TEST_SECONDS:
            await asyncio.sleep(left)
        wanted = (datetime.now(UTC).date(), days_ahead)
        if wanted not in made:
            name = await databases.enter_async_context(temporary_database(administrator, "template"))
            database = Database(of_database(postgres_url, name), pool_size=1)
            await database.open()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(schema, "PARTITION_DAYS_AHEAD", days_ahead)
                await schema.migrate(database)
            await database.close()  # a template must have no connection when it is cloned
            made[wanted] = name
        return made[wanted]

    async with AsyncExitStack() as databases:
        yield name_of_today


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def template_database(todays_template: TodaysTemplate) -> str:
    """The template of the day on which the tests began, for databases that daemons of many tests share."""
    return await todays_template(schema.PARTITION_DAYS_AHEAD)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def small_template_database(todays_template: TodaysTemplate) -> str:
    """The same with few partitions, for databases that are used by the test's process alone."""
    return await todays_template(FEW_DAYS_AHEAD)


@pytest.fixture
def days_ahead() -> int:
    """For how many days the test's database has partitions, and its process makes some. Folders without daemons have
    another one.
    """
    return schema.PARTITION_DAYS_AHEAD


@pytest_asyncio.fixture(loop_scope="session")
async def database_url(
    postgres_url: str,
    administrator: asyncpg.Connection,
    todays_template: TodaysTemplate,
    days_ahead: int,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[str]:
    """A migrated database for this test alone."""
    monkeypatch.setattr(schema, "PARTITION_DAYS_AHEAD", days_ahead)
    async with temporary_database(administrator, "test", template=await todays_template(days_ahead)) as name:
        yield of_database(postgres_url, name)


@pytest_asyncio.fixture(loop_scope="session")
async def empty_database_url(postgres_url: str, administrator: asyncpg.Connection) -> AsyncIterator[str]:
    """A database without a schema, for tests of migration."""
    async with temporary_database(administrator, "empty") as name:
        yield of_database(postgres_url, name)


def _seconds_to_midnight() -> float:
    now = datetime.now(UTC)
    tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return (tomorrow - now).total_seconds()
