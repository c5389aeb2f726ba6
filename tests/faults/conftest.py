"""The stage for faults, the seed of what is random, and the table of figures at the end.

The one thing to know: a row reports its figures while it goes, so that the table shows those of a failed one too.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.cluster import Cluster, cluster
from tests.support.figures import Figures
from tests.support.stage import Stage, stage

_TABLE = pytest.StashKey[list[Figures]]()
_SEED = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    given = config.getoption("--seed")
    config.stash[_SEED] = secrets.randbelow(1_000_000) if given is None else given
    config.stash[_TABLE] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = [figures for figures in config.stash[_TABLE] if figures.said]
    if table:
        terminalreporter.section(f"faults, --seed {config.stash[_SEED]}")
        for figures in table:
            for line in figures.lines():
                terminalreporter.write_line(line)


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether the full figures of the table are wanted, and not the quick ones."""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Chance that comes again with the same --seed."""
    return random.Random(f"{request.config.stash[_SEED]}-{request.node.name}")


@pytest.fixture
def figures(request: pytest.FixtureRequest, is_long: bool) -> Figures:
    """A row of the table, named by the test."""
    row = Figures(row=request.node.name.removeprefix("test_").replace("_", " "), is_strict=is_long)
    request.config.stash[_TABLE].append(row)
    return row


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
