"""The stage for faults, what is random about them, and their figures.

The one thing to know: a row says its figures while it goes, so that the table at the end (tests/conftest.py) shows
those of a failed one too.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.cluster import Cluster, cluster
from tests.support.figures import FIGURES, Figures, seed_of
from tests.support.stage import Stage, stage


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether the full figures of the table are wanted, and not the quick ones."""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Chance that comes again with the same --seed."""
    return random.Random(f"{seed_of(request.config)}-{request.node.name}")


@pytest.fixture
def figures(request: pytest.FixtureRequest, is_long: bool) -> Iterator[Figures]:
    """A row of the table, named by the test."""
    row = Figures(row=request.node.name.removeprefix("test_").replace("_", " "), is_strict=is_long)
    yield row
    request.node.user_properties.append((FIGURES, row.lines()))


@pytest_asyncio.fixture
async def ground(database_url: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage on a database of the server that all tests share."""
    async with stage(database_url, tmp_path) as it:
        yield it


@pytest.fixture
def server() -> Iterator[Cluster]:
    """A PostgreSQL that belongs to this test alone, to do with it what one likes."""
    with cluster() as it:
        yield it


@pytest_asyncio.fixture
async def shaky_ground(server: Cluster, tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage on that server."""
    async with stage(server.url, tmp_path) as it:
        yield it
