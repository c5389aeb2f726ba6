"""Fixtures for tests of faults: the system under test, a random generator, and a row of the report.

The one thing to know: a test adds measurements to its row as it goes, so that the table at the end (tests/conftest.py)
shows those of a failed test too.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.faults.report import FAULT_REPORT, FaultReport, seed_of
from tests.support.faults.system_under_test import SystemUnderTest, system_under_test
from tests.support.postgres.cluster import Cluster, cluster


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """True if the run has `--long`, for the full sizes."""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """A generator that repeats with the same --seed."""
    return random.Random(f"{seed_of(request.config)}-{request.node.name}")


@pytest.fixture
def report(request: pytest.FixtureRequest, is_long: bool) -> Iterator[FaultReport]:
    """A row of the table, named after the test."""
    row = FaultReport(row=request.node.name.removeprefix("test_").replace("_", " "), is_strict=is_long)
    yield row
    request.node.user_properties.append((FAULT_REPORT, row.lines()))


@pytest_asyncio.fixture
async def system(database_url: str, tmp_path: Path) -> AsyncIterator[SystemUnderTest]:
    """A system on a database of the server that all tests share."""
    async with system_under_test(database_url, tmp_path) as it:
        yield it


@pytest.fixture
def server() -> Iterator[Cluster]:
    """A PostgreSQL for this test alone, which may kill or freeze it."""
    with cluster() as it:
        yield it


@pytest_asyncio.fixture
async def system_on_own_server(server: Cluster, tmp_path: Path) -> AsyncIterator[SystemUnderTest]:
    """A system on the server of `server`."""
    async with system_under_test(server.url, tmp_path) as it:
        yield it
